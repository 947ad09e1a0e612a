"""Trains the small LLaVA.

Run as `python -m demo.models.llava --images F --clip F --out F1 --out F2 --metrics captioner.json`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from open_clip import create_model
from torch import Tensor

from demo.draw.attributes import Thing
from demo.draw.captions import WORD_COUNTS, WORD_WEIGHTS, caption, nouns, prompt
from demo.draw.images import TrainingImages, read_images
from demo.models.grading import describes, measure_captioner
from demo.models.llava_network import make_model
from demo.models.llava_processor import make_processor
from demo.models.training import AttributeHeads, augmented, batches, copy_folder, quiet_transformers, train
from demo.settings import CaptionerSettings, DemoParams, read_settings
from demo.wanted import judged
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.json_files import write_json
from spn4cir.positives.llava import LlavaCaptioner

IGNORED = -100


def encode_dialogue(processor: Any, thing: Thing, noun: str, words: int) -> tuple[list[int], int]:
    """Returns the token ids of prompt and answer, and the number of those of the prompt."""
    asked = _encode_question(processor, prompt(noun, words))
    answer = processor.tokenizer(caption(thing, words), add_special_tokens=False)["input_ids"]
    return [*asked, *answer, processor.tokenizer.eos_token_id], len(asked)


@lru_cache
def _encode_question(processor: Any, question: str) -> tuple[int, ...]:
    """Returns the token ids of a user turn with an image.

    They are cached: there are few questions, and encoding one costs a tenth of the time of a step.
    """
    content = [{"type": "image"}, {"type": "text", "text": question}]
    turn = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    side = processor.image_processor.crop_size["height"] // processor.patch_size
    return tuple(processor.tokenizer(turn.replace(processor.image_token, processor.image_token * side**2))["input_ids"])


def collate(dialogues: Sequence[tuple[list[int], int]], padding: int) -> dict[str, Tensor]:
    """Returns input ids, attention mask and labels, padded on the right. Only answers have labels."""
    length = max(len(ids) for ids, _ in dialogues)
    ids = torch.full((len(dialogues), length), padding)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, asked) in enumerate(dialogues):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, asked : len(tokens)] = torch.tensor(tokens[asked:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train_llava(model: Any, processor: Any, images: Path, settings: CaptionerSettings) -> dict[str, Any]:
    """Trains the model to answer the prompts, in rounds, until it is accurate enough on images that were kept apart.

    A round is a whole schedule and ends with a learning rate of zero. The number of rounds depends on seed and
    processor: an attribute is learnt suddenly, some time after the others.

    Returns:
        `rounds`: the number of rounds; `apart_min`: accuracy of the worst attribute on the images that were kept
        apart, in percent.
    """
    everything, kept = list(read_images(images).values()), settings.kept_apart
    apart = [(kind.things[:kept], kind.images(kept)) for kind in everything]
    shown = [TrainingImages(kind.things[kept:], kind.pixels[kept:]) for kind in everything]
    vision = model.config.vision_config
    heads = AttributeHeads(shown, (vision.image_size // vision.patch_size) ** 2 * settings.width)
    losses = lessons(model, processor, shown, heads, settings)
    trained = [*model.parameters(), *heads.parameters()]
    reached: dict[str, Any] = {}
    for number in range(1, settings.rounds + 1):
        model.train()
        train(trained, losses, settings.steps, settings.lr, f"train captioner, round {number}")
        model.eval()
        described = describes(LlavaCaptioner(model, processor, torch.device("cpu"), torch.float32), apart)
        reached = {"rounds": number, "apart_min": described["min"]}
        if described["min"] >= settings.enough:
            break
    return reached


def lessons(
    model: Any, processor: Any, shown: Sequence[TrainingImages], heads: AttributeHeads, settings: CaptionerSettings
) -> Iterator[Tensor]:
    """Yields losses without end: of the answers, and of the attributes. A batch has equally many images of each kind.

    The heads classify the attributes from the tokens of the images that the language model receives. Without them
    images are learnt only through the attention of the language model. An attribute that few patches show (the neck
    of a garment) is then not learnt before attention finds these patches, which is a matter of luck.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    sources = [batches(len(kind.things), settings.batch_size // len(shown), generator) for kind in shown]
    for rows in zip(*sources, strict=True):
        things = [[kind.things[i] for i in chosen] for kind, chosen in zip(shown, rows, strict=True)]
        pixels = torch.cat([kind.pixels[chosen] for kind, chosen in zip(shown, rows, strict=True)])
        dialogues = [
            encode_dialogue(processor, thing, rng.choice(nouns(thing)), rng.choices(WORD_COUNTS, WORD_WEIGHTS)[0])
            for thing in itertools.chain(*things)
        ]
        inputs = collate(dialogues, processor.tokenizer.pad_token_id)
        answers, shown_tokens = answer(model, pixel_values=augmented(pixels, generator), **inputs)
        yield answers + heads.loss(shown_tokens.flatten(1), things)


def answer(model: Any, **inputs: Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, "batch tokens width"]]:
    """Returns the mean loss of the answers, and the tokens of the images that the language model receives."""
    projected: list[Tensor] = []
    hook = model.model.multi_modal_projector.register_forward_hook(lambda *call: projected.append(call[-1]))
    loss: Tensor = model(**inputs).loss
    hook.remove()
    return loss, projected[0]


def make_captioner(settings: DemoParams, images: Path, clip: Path, outs: Sequence[Path], metrics: Path) -> None:
    """Trains the model, writes it to each of the folders `outs`, and measures the written model."""
    own = settings.captioner
    torch.manual_seed(own.seed)
    base = create_model(f"local-dir:{clip}", require_pretrained=True)
    processor = make_processor(settings.images.image_size, base.visual.patch_size[0])
    model = make_model(base, processor, own)
    reached = train_llava(model, processor, images, own)
    quiet_transformers()
    with atomic_folder(outs[0]) as folder:
        processor.save_pretrained(folder)
        model.save_pretrained(folder)
        measured = measure_captioner(folder, settings.images) | reached
    wanted = {"mean": own.wanted_mean_accuracy, "min": own.wanted_attribute_accuracy}
    write_json(metrics, judged("captioner", measured, wanted), indent=2)
    for out in outs[1:]:
        copy_folder(outs[0], out)


def main() -> None:
    """Trains the small LLaVA with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder written by demo.draw.images")
    parser.add_argument("--clip", type=Path, required=True, help="folder written by demo.models.clip")
    parser.add_argument("--out", type=Path, action="append", required=True, help="folder of the model")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file of the measurements")
    arguments = parser.parse_args()
    try:
        make_captioner(read_settings(), arguments.images, arguments.clip, arguments.out, arguments.metrics)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
