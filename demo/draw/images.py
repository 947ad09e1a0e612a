"""Draws the training images of the small models: `python -m demo.draw.images --out data/models/demo_images`."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from demo.draw.attributes import Garment, Scene, Thing, attributes, draw_thing
from demo.draw.render import render
from demo.settings import ImagesSettings, read_settings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.images.preprocess import Preprocess
from spn4cir.json_files import read_json, write_json
from spn4cir.progress import progress

KINDS: tuple[type[Garment] | type[Scene], ...] = (Garment, Scene)
# Some images are padded to this ratio, as for composed retrieval; the others are cropped, as for the captioner.
RATIOS = (None, 1.25)


@dataclass(frozen=True)
class TrainingImages:
    """Training images of one kind as pixels, and the things that they show."""

    things: list[Thing]
    pixels: UInt8[Tensor, "images 3 size size"]

    def images(self, count: int) -> list[Image.Image]:
        """Returns the first `count` as PIL images."""
        return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in self.pixels[:count]]


def draw_things(kind: type[Garment] | type[Scene], count: int, seed: str) -> tuple[list[Thing], list[str]]:
    """Draws `count` things, and the seeds of their images."""
    rng = random.Random(f"{kind.__name__} {seed}")
    return [draw_thing(kind, rng) for _ in range(count)], [f"{rng.getrandbits(64):x}" for _ in range(count)]


def held_out(kind: type[Garment] | type[Scene], settings: ImagesSettings) -> tuple[list[Thing], list[Image.Image]]:
    """Draws the held-out things and their images, which no training uses."""
    things, seeds = draw_things(kind, settings.held_out_per_kind, f"held out {settings.seed}")
    return things, [render(thing, seed) for thing, seed in zip(things, seeds, strict=True)]


def _pixels(thing: Thing, seed: str, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Draws one image at the input size of the networks, before normalisation."""
    ratio = random.Random(f"ratio {seed}").choice(RATIOS)
    unnormalised = Preprocess(size, ratio, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels: UInt8[np.ndarray, "3 size size"] = (unnormalised(render(thing, seed)) * 255).byte().numpy()
    return pixels


def write_images(settings: ImagesSettings, out: Path) -> None:
    """Writes the training images of both kinds to the folder `out`."""
    with atomic_folder(out) as folder:
        for kind in KINDS:
            things, seeds = draw_things(kind, settings.train_per_kind, f"train {settings.seed}")
            drawn = (_pixels(thing, seed, settings.image_size) for thing, seed in zip(things, seeds, strict=True))
            pixels = np.stack(list(progress(drawn, len(things), f"draw {kind.__name__.lower()}s", "images")))
            np.save(folder / f"{kind.__name__}.npy", pixels)
            write_json(folder / f"{kind.__name__}.json", [attributes(thing) for thing in things])


def read_images(folder: Path) -> dict[str, TrainingImages]:
    """Reads the training images, by the name of their kind."""
    shown = {}
    for kind in KINDS:
        things: list[Thing] = [kind(**values) for values in read_json(folder / f"{kind.__name__}.json")]
        shown[kind.__name__] = TrainingImages(things, torch.from_numpy(np.load(folder / f"{kind.__name__}.npy")))
    return shown


def value_counts(thing: Thing) -> list[int]:
    """Returns the number of values of each attribute."""
    return [len(values) for values in thing.VALUES.values()]


def label_rows(things: Sequence[Thing]) -> Int[Tensor, "things attributes"]:
    """Returns the index of each attribute's value among its possible values."""
    rows = [[thing.VALUES[name].index(value) for name, value in attributes(thing).items()] for thing in things]
    return torch.tensor(rows)


def main() -> None:
    """Draws the images with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the images; replaced if it exists")
    arguments = parser.parse_args()
    try:
        write_images(read_settings().images, arguments.out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
