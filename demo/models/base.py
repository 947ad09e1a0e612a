"""Makes the base model from which the training of a family starts.

Run as `python -m demo.models.base blip --images F --clip F --out F1 --out F2`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from demo.draw.captions import caption
from demo.draw.changes import change_text
from demo.draw.images import KINDS, held_out, label_rows
from demo.models.bert_tokenizer import vocabulary
from demo.models.blip import BlipReader
from demo.models.blip2 import Blip2Reader
from demo.models.blip_training import Neighbours, Reader, see, train_reader
from demo.models.training import copy_folder, quiet_transformers
from demo.settings import DemoParams, ImagesSettings, RetrieverSettings, read_settings
from demo.wanted import judged
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.images.preprocess import Preprocess
from spn4cir.json_files import write_json

OVER_CLIP = ("clip", "tgcir", "zs", "zs_cc")
READERS: dict[str, Callable[[Any, int], Reader]] = {"blip": BlipReader, "blip2": Blip2Reader}
# Number of words of a caption that names every attribute.
ALL_ATTRIBUTES = 8


@torch.no_grad()
def measure(reader: Reader, settings: ImagesSettings, seed: int) -> dict[str, float]:
    """Measures R@1 in percent among the held-out images of each kind, of captions and of changes.

    Every image that shows an equal thing is a hit. The reference of a change is removed from its ranking.

    Returns:
        The measurements by name: `<kind>_caption_recall_at1`, `<kind>_change_recall_at1`, the R@1 of a random order
        as `<kind>_change_chance`, and the size of the `gallery`.
    """
    preprocess = Preprocess(settings.image_size)
    measured: dict[str, float] = {"gallery": settings.held_out_per_kind}
    for kind in KINDS:
        things, images = held_out(kind, settings)
        rng = random.Random(seed)
        neighbours = Neighbours(things, rng)
        targets = [neighbours.target(row) for row in range(len(things))]
        changes = [change_text(thing, things[row], rng) for thing, row in zip(things, targets, strict=True)]
        states = see(reader, torch.stack([preprocess(image) for image in images]))
        seen = reader.targets(states)
        described = reader.score(reader.read([caption(thing, ALL_ATTRIBUTES) for thing in things]), seen)
        composed = reader.score(reader.compose(states, changes), seen).fill_diagonal_(-torch.inf)
        labels = label_rows(things)
        same = (labels[:, None] == labels[None]).all(dim=2)
        name = kind.__name__.lower()
        measured[f"{name}_caption_recall_at1"] = recall_at1(described, same)
        measured[f"{name}_change_recall_at1"] = recall_at1(composed, same[targets])
        measured[f"{name}_change_chance"] = round(100 * same[targets].float().mean().item(), 2)
    return measured


def recall_at1(scores: Float[Tensor, "queries gallery"], right: Bool[Tensor, "queries gallery"]) -> float:
    """Returns the percentage of queries whose best candidate is a correct one."""
    best = scores.argmax(dim=1, keepdim=True)
    return round(100 * right.gather(1, best).float().mean().item(), 2)


def make_reader(family: str, settings: DemoParams, images: Path, out: Path) -> None:
    """Trains and measures the model; writes it to the folder `out`, with the measurements as `measured.json`."""
    own: RetrieverSettings = getattr(settings, family)
    torch.manual_seed(own.seed)
    reader = READERS[family](own, settings.images.image_size)
    train_reader(reader, images, own, f"train {family}")
    measured = measure(reader, settings.images, own.seed)
    print(f"{family} on held-out images: {measured}")
    wanted = {figure: own.wanted_recall for figure in measured if figure.endswith("recall_at1")}
    quiet_transformers()
    with atomic_folder(out) as folder:
        reader.network.save_pretrained(folder)
        (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
        write_json(folder / "measured.json", judged(family, measured, wanted), indent=2)


def main() -> None:
    """Copies the small CLIP, or trains the small BLIP or BLIP-2 with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=(*OVER_CLIP, *READERS))
    parser.add_argument("--images", type=Path, required=True, help="folder written by demo.draw.images")
    parser.add_argument("--clip", type=Path, required=True, help="folder written by demo.models.clip")
    parser.add_argument("--out", type=Path, action="append", required=True, help="folder of the model")
    arguments = parser.parse_args()
    first, *others = arguments.out
    try:
        if arguments.family in OVER_CLIP:
            copy_folder(arguments.clip, first)
        else:
            make_reader(arguments.family, read_settings(), arguments.images, first)
        for out in others:
            copy_folder(first, out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
