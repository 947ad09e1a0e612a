"""Trains the small CLIP: `python -m demo.models.clip --images F --out F --metrics clip.json`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from open_clip import CLIP, SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor

from demo.draw.captions import free_caption
from demo.draw.images import KINDS, held_out, read_images
from demo.models.training import MAX_LOGIT_SCALE, augmented, contrastive_loss, mixed_batches, train
from demo.settings import Clip, ClipTraining, DemoParams, read_settings
from demo.wanted import judged
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.images.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from spn4cir.json_files import write_json
from spn4cir.weights import HEAD_WIDTH

VOCABULARY = 49408


def model_config(settings: ClipTraining, image_size: int) -> dict[str, Any]:
    """Returns the architecture in open_clip's form: that of OpenAI's CLIP at smaller sizes."""
    return {
        "embed_dim": settings.embed_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": image_size,
            "layers": settings.vision_layers,
            "width": settings.vision_width,
            "head_width": HEAD_WIDTH,
            "patch_size": settings.patch_size,
        },
        "text_cfg": {
            "context_length": settings.context_length,
            "vocab_size": VOCABULARY,
            "width": settings.text_width,
            "heads": settings.text_width // HEAD_WIDTH,
            "layers": settings.text_layers,
        },
    }


def write_clip(model: CLIP, config: dict[str, Any], out: Path) -> None:
    """Writes the folder that `open_clip.create_model('local-dir:OUT')` loads."""
    with atomic_folder(out) as folder:
        preprocess = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)}
        text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
        (folder / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "open_clip_model.safetensors")


class SmallVocabulary:
    """Replaces the token embeddings of a CLIP by those of the tokens that occur, for training.

    Training the full table costs more than training both towers. Compact ids have the order of the full ones, so the
    end-of-text token stays the largest.

    Args:
        model: the CLIP; its table is replaced until `restore`.
        tokens: full ids of all training texts.
    """

    def __init__(self, model: CLIP, tokens: Int[Tensor, "texts length"]) -> None:
        self.model = model
        self.full = model.token_embedding
        self.used = torch.unique(tokens)
        model.token_embedding = torch.nn.Embedding(len(self.used), self.full.embedding_dim)
        model.token_embedding.weight.data.copy_(self.full.weight[self.used])

    def compact(self, tokens: Int[Tensor, "texts length"]) -> Int[Tensor, "texts length"]:
        """Returns the rows of the tokens in the small table."""
        return torch.searchsorted(self.used, tokens)

    def restore(self) -> None:
        """Restores the full table, with the trained rows."""
        with torch.no_grad():
            self.full.weight[self.used] = self.model.token_embedding.weight
        self.model.token_embedding = self.full


def train_clip(model: CLIP, images: Path, settings: Clip) -> float:
    """Trains contrastively; the kinds alternate by batch. Returns the last loss."""
    shown = list(read_images(images).values())
    rng = random.Random(settings.seed)
    tokenizer = SimpleTokenizer(context_length=settings.context_length)
    sources = [mixed_batches(kind.things, settings.batch_size, rng) for kind in shown]
    plan = [(shown[step % len(shown)], next(sources[step % len(shown)])) for step in range(settings.steps)]
    texts = [tokenizer([free_caption(kind.things[i], rng) for i in rows]) for kind, rows in plan]
    return train_towers(model, [(kind.pixels, rows) for kind, rows in plan], texts, settings)


def train_towers(
    model: CLIP,
    batches: Sequence[tuple[UInt8[Tensor, "images 3 size size"], list[int]]],
    texts: Sequence[Int[Tensor, "batch length"]],
    settings: ClipTraining,
) -> float:
    """Trains both towers contrastively on given batches. Returns the last loss.

    Args:
        model: the CLIP.
        batches: images and the rows of each batch in them, one for each step.
        texts: tokens of the captions of each batch.
        settings: seed of the augmentation, number of steps, learning rate.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    vocabulary = SmallVocabulary(model, torch.cat(list(texts)))

    def losses() -> Iterator[Tensor]:
        for (pixels, rows), tokens in zip(batches, texts, strict=True):
            features = model.encode_image(augmented(pixels[rows], generator), normalize=True)
            words = model.encode_text(vocabulary.compact(tokens), normalize=True)
            scale = model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            yield contrastive_loss(scale * features @ words.T, same_texts(tokens))

    last = train(model.parameters(), losses(), settings.steps, settings.lr, "train clip")
    vocabulary.restore()
    return last


def same_texts(tokens: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch batch"]:
    """Returns which pairs of texts have equal tokens; the diagonal is False."""
    same = (tokens[:, None] == tokens[None]).all(dim=2)
    return same.fill_diagonal_(False)


@torch.no_grad()
def measure_clip(model: CLIP, settings: DemoParams) -> dict[str, float]:
    """Measures R@1 from image to text in held-out batches of each kind, in percent. Equal captions are hits."""
    model.eval()
    size = settings.clip.measured_batch
    tokenizer = SimpleTokenizer(context_length=settings.clip.context_length)
    preprocess = Preprocess(settings.images.image_size)
    measured: dict[str, float] = {"batch": size, "chance": 100.0 / size}
    for kind in KINDS:
        things, images = held_out(kind, settings.images)
        rng = random.Random(settings.clip.seed)
        texts = [free_caption(thing, rng) for thing in things]
        features = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
        words = model.encode_text(tokenizer(texts), normalize=True)
        starts = range(0, len(things) - size + 1, size) or range(1)
        hits = [_hits(features[s : s + size], words[s : s + size], texts[s : s + size]) for s in starts]
        measured[f"{kind.__name__.lower()}_recall_at1"] = round(100 * torch.cat(hits).float().mean().item(), 2)
    return measured


def _hits(images: Float[Tensor, "n dim"], words: Float[Tensor, "n dim"], texts: Sequence[str]) -> Tensor:
    best = (images @ words.T).argmax(dim=1).tolist()
    return torch.tensor([texts[row] == texts[number] for number, row in enumerate(best)])


def make_clip(settings: DemoParams, images: Path, out: Path, metrics: Path) -> None:
    """Trains and measures the model; writes it to the folder `out`."""
    torch.manual_seed(settings.clip.seed)
    config = model_config(settings.clip, settings.images.image_size)
    model = CLIP(**config)
    train_clip(model, images, settings.clip)
    measured = measure_clip(model, settings)
    wanted = {name: settings.clip.wanted_recall for name in measured if name.endswith("recall_at1")}
    write_json(metrics, judged("clip", measured, wanted), indent=2)
    write_clip(model, config, out)


def main() -> None:
    """Trains the small CLIP with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder written by demo.draw.images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file of the measurements")
    arguments = parser.parse_args()
    try:
        make_clip(read_settings(), arguments.images, arguments.out, arguments.metrics)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
