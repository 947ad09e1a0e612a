"""Trains the small LLaVA: `python -m demo.llava --pictures F --clip F --out F1 --out F2 --metrics captioner.json`."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP, create_model
from torch import Tensor

from demo.attributes import Thing
from demo.captions import WORD_COUNTS, WORD_WEIGHTS, caption, nouns, prompt
from demo.chat import make_processor
from demo.grading import measure_captioner
from demo.pictures import read_pictures
from demo.pretrain import augmented, batches, copy_folder, quiet_transformers, require, train
from demo.settings import Captioner, DemoParams, read_settings
from demo.tower import tower_state
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, write_json

IGNORED = -100
HEAD_WIDTH = 32


def make_model(clip: CLIP, processor: Any, settings: Captioner) -> Any:
    """A LLaVA whose vision tower is the CLIP's, and whose language model is random."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    visual = clip.visual
    width, blocks = visual.conv1.out_channels, visual.transformer.resblocks
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act="quick_gelu",
    )
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // HEAD_WIDTH,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    image_token = tokenizer.convert_tokens_to_ids(processor.image_token)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token)
    )
    model.model.vision_tower.load_state_dict(_named_like(model.model.vision_tower, tower_state(clip.state_dict())))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    return model


def _named_like(tower: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state under the prefix that this version of transformers puts before its names, if any."""
    prefix = next(iter(tower.state_dict())).split("embeddings.")[0]
    return {prefix + name: tensor for name, tensor in state.items()}


def encode_dialogue(processor: Any, thing: Thing, noun: str, words: int) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and how many of them are the prompt's."""
    tokenizer = processor.tokenizer
    content = [{"type": "image"}, {"type": "text", "text": prompt(noun, words)}]
    turn = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    side = processor.image_processor.crop_size["height"] // processor.patch_size
    asked = tokenizer(turn.replace(processor.image_token, processor.image_token * side**2))["input_ids"]
    answer = tokenizer(caption(thing, words), add_special_tokens=False)["input_ids"]
    return [*asked, *answer, tokenizer.eos_token_id], len(asked)


def collate(dialogues: Sequence[tuple[list[int], int]], padding: int) -> dict[str, Tensor]:
    """Input ids, attention mask and labels, padded on the right; only answers have labels."""
    length = max(len(ids) for ids, _ in dialogues)
    ids = torch.full((len(dialogues), length), padding)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, asked) in enumerate(dialogues):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, asked : len(tokens)] = torch.tensor(tokens[asked:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train_llava(model: Any, processor: Any, pictures: Path, settings: Captioner) -> float:
    """Teaches the model to answer the prompts, half a batch of either kind. Returns the last loss."""
    shown = list(read_pictures(pictures).values())
    generator = torch.Generator().manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    sources = [batches(len(kind.things), settings.batch_size // len(shown), generator) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for rows in zip(*sources, strict=True):
            things = [kind.things[i] for kind, chosen in zip(shown, rows, strict=True) for i in chosen]
            pixels = torch.cat([kind.pixels[chosen] for kind, chosen in zip(shown, rows, strict=True)])
            dialogues = [
                encode_dialogue(processor, thing, rng.choice(nouns(thing)), rng.choices(WORD_COUNTS, WORD_WEIGHTS)[0])
                for thing in things
            ]
            inputs = collate(dialogues, processor.tokenizer.pad_token_id)
            yield model(pixel_values=augmented(pixels, generator), **inputs).loss

    model.train()
    return train(model.parameters(), losses(), settings.steps, settings.lr, "train captioner")


def make_captioner(settings: DemoParams, pictures: Path, clip: Path, outs: Sequence[Path], metrics: Path) -> None:
    """Trains the model, measures what was written, and copies it to each of `outs`.

    Raises InputError when it describes held-out pictures worse than the settings demand.
    """
    torch.manual_seed(settings.captioner.seed)
    base = create_model(f"local-dir:{clip}", require_pretrained=True)
    processor = make_processor(settings.pictures.image_size, base.visual.patch_size[0])
    model = make_model(base, processor, settings.captioner)
    train_llava(model, processor, pictures, settings.captioner)
    quiet_transformers()
    with atomic_folder(outs[0]) as folder:
        processor.save_pretrained(folder)
        model.save_pretrained(folder)
        measured = measure_captioner(folder, settings.pictures)
        write_json(metrics, measured, indent=2)
        require("the demo captioner's mean accuracy", measured["mean"], settings.captioner.min_mean_accuracy)
        require(
            f"the demo captioner's accuracy on {measured['worst']}",
            measured["min"],
            settings.captioner.min_attribute_accuracy,
        )
    for out in outs[1:]:
        copy_folder(outs[0], out)


def main() -> None:
    """Makes the small LLaVA with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by demo.pictures")
    parser.add_argument("--clip", type=Path, required=True, help="folder written by demo.clip")
    parser.add_argument("--out", type=Path, action="append", required=True, help="folder of the model")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file of what was measured")
    arguments = parser.parse_args()
    try:
        make_captioner(read_settings(), arguments.pictures, arguments.clip, arguments.out, arguments.metrics)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
