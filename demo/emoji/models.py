"""Trains the small models of the emoji on the images of the train split.

Run as `python -m demo.emoji.models --data data/raw/demo_emoji --out data/models/demo_emoji`.
Writes the base model of the families `clip` and `zs`, the same network as a baseline, and an image encoder in Unicom's
format.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from open_clip import CLIP, SimpleTokenizer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from demo.emoji.records import Emoji
from demo.models.clip import model_config, train_towers, write_clip
from demo.models.encoder import encoder_sizes, save_encoder
from demo.models.training import FEATURE_SCALE, augmented, batches, copy_folder, train
from demo.settings import ClipTraining, EmojiModels, EncoderTraining, read_settings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.images.preprocess import Preprocess
from spn4cir.json_files import read_json
from spn4cir.positives.unicom import Unicom

FAMILIES = ("clip", "zs")
# Shares of training captions that name a detail of a person, and the most tags of a thing in one caption.
DETAILS_SHARE = 0.8
MOST_TAGS = 2
# The properties that the encoder learns to tell apart.
LABELS = ("kind", "name", "who", "skin", "hair", "colour")
NO_CAPTIONER = "The captions of demo_emoji are written from its metadata, so there is no captioner.\n"
NO_RERANKER = "No second network reranks; the stage `validate` depends on this folder.\n"

Pixels = UInt8[Tensor, "images 3 size size"]


def read_train(data: Path, size: int) -> tuple[list[Emoji], Pixels]:
    """Reads the emoji of the train split and their images at the input size of the networks."""
    rows = [row for row in read_json(data / "emoji.json") if row["split"] == "train"]
    unnormalised = Preprocess(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = []
    for row in rows:
        with Image.open(data / row["image"]) as image:
            pixels.append((unnormalised(image.convert("RGB")) * 255).byte())
    fields = [{key: value for key, value in row.items() if key not in ("image", "split")} for row in rows]
    return [Emoji(**values | {"tags": tuple(values["tags"])}) for values in fields], torch.stack(pixels)


def free_caption(emoji: Emoji, rng: random.Random) -> str:
    """Returns a caption that names what the emoji shows and some of its details or tags."""
    details = [each for each in emoji.details if rng.random() < DETAILS_SHARE]
    if details:
        return " with ".join((emoji.noun, " and ".join(details)))
    tags = rng.sample(emoji.tags, rng.randint(0, min(MOST_TAGS, len(emoji.tags))))
    return ", ".join((emoji.noun, *tags))


def train_clip(emoji: Sequence[Emoji], pixels: Pixels, settings: ClipTraining, image_size: int, out: Path) -> None:
    """Trains the CLIP; writes it to the folder `out` in open_clip's form."""
    torch.manual_seed(settings.seed)
    config = model_config(settings, image_size)
    model = CLIP(**config)
    rng = random.Random(settings.seed)
    tokenizer = SimpleTokenizer(context_length=settings.context_length)
    source = _mixed(emoji, settings.batch_size, rng)
    rows = [next(source) for _ in range(settings.steps)]
    texts = [tokenizer([free_caption(emoji[row], rng) for row in batch]) for batch in rows]
    train_towers(model, [(pixels, batch) for batch in rows], texts, settings)
    write_clip(model, config, out)


def _mixed(emoji: Sequence[Emoji], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Yields batches of rows without end, alternately of any emoji and of those of one kind if there are enough.

    The captions of one kind differ in skin, gender and name, which the towers then learn too.
    """
    everything = list(range(len(emoji)))
    while True:
        yield rng.sample(everything, min(size, len(everything)))
        kind = emoji[rng.choice(everything)].kind
        alike = [row for row in everything if emoji[row].kind == kind]
        yield rng.sample(alike if len(alike) >= size else everything, min(size, len(everything)))


def label_columns(emoji: Sequence[Emoji]) -> Int[Tensor, "emoji labels"]:
    """Returns the number of each value among the values of its property."""
    columns = []
    for key in LABELS:
        values = sorted({getattr(each, key) for each in emoji})
        columns.append([values.index(getattr(each, key)) for each in emoji])
    return torch.from_numpy(np.array(columns).T.copy())


def train_encoder(
    emoji: Sequence[Emoji], pixels: Pixels, settings: EncoderTraining, image_size: int, out: Path
) -> None:
    """Trains features from which linear classifiers read every property; writes the encoder to the file `out`."""
    torch.manual_seed(settings.seed)
    model = Unicom(encoder_sizes(settings, image_size))
    labels = label_columns(emoji)
    heads = nn.ModuleList(nn.Linear(settings.embed_dim, int(column.max()) + 1) for column in labels.T)
    generator = torch.Generator().manual_seed(settings.seed)
    source = batches(len(emoji), min(settings.batch_size, len(emoji)), generator)

    def losses() -> Iterator[Tensor]:
        for rows in source:
            features = FEATURE_SCALE * functional.normalize(model(augmented(pixels[rows], generator)), dim=1)
            each = zip(heads, labels[rows].T, strict=True)
            yield torch.stack([functional.cross_entropy(head(features), column) for head, column in each]).mean()

    model.train()
    train([*model.parameters(), *heads.parameters()], losses(), settings.steps, settings.lr, "train encoder")
    save_encoder(model.eval(), out)


def make_models(settings: EmojiModels, data: Path, out: Path) -> None:
    """Trains the models and writes them to the folder `out`, in the places that the pipeline reads."""
    emoji, pixels = read_train(data, settings.image_size)
    with atomic_folder(out) as folder:
        first, *others = (folder / "stage1" / family for family in FAMILIES)
        train_clip(emoji, pixels, settings.clip, settings.image_size, first)
        for place in (*others, folder / "baselines" / "clip"):
            copy_folder(first, place)
        (folder / "encoder").mkdir()
        train_encoder(emoji, pixels, settings.encoder, settings.image_size, folder / "encoder" / "unicom.pt")
        for name, content in (("captioner", NO_CAPTIONER), ("rerank", NO_RERANKER)):
            (folder / name).mkdir()
            (folder / name / "README.md").write_text(content, encoding="utf-8")


def main() -> None:
    """Trains the models with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by demo.emoji.dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder of the models; replaced if it exists")
    arguments = parser.parse_args()
    try:
        make_models(read_settings().emoji_models, arguments.data, arguments.out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
