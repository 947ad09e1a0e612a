"""The planned content of a data set, before anything is drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.draw.attributes import Thing

# Real data contain a few files that are not plain RGB.
MODES = ("RGB",) * 30 + ("P", "RGBA")


@dataclass(frozen=True)
class DrawnImage:
    """An image file to draw.

    Attributes:
        path: path relative to the root of the data set.
        thing: the garment or scene that it shows.
        seed: determines position, shade, noise and size.
        mode: pixel mode of the file, as PIL names it.
    """

    path: str
    thing: Thing
    seed: str
    mode: str = "RGB"


@dataclass(frozen=True)
class Copy:
    """An image file with the decoded pixels of another one.

    Attributes:
        path: path relative to the root of the data set.
        original: path of the other image.
        reencoded: whether the bytes of the file differ; the pixels are equal.
    """

    path: str
    original: str
    reencoded: bool


@dataclass
class Plan:
    """All files of one data set: images, copies of images, and the contents of JSON files by path."""

    images: list[DrawnImage] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    texts: dict[str, Any] = field(default_factory=dict)

    def add(self, paths: Sequence[str], things: Sequence[Thing], copies: int, rng: random.Random) -> list[Thing]:
        """Adds one file per path and returns the thing that each shows. The last `copies` repeat earlier images."""
        originals = len(paths) - copies
        shown = list(things[:originals])
        for path, thing in zip(paths, shown, strict=False):
            self.images.append(DrawnImage(path, thing, seed=f"{rng.getrandbits(64):x}", mode=rng.choice(MODES)))
        for number, path in enumerate(paths[originals:]):
            repeated = rng.randrange(originals)
            self.copies.append(Copy(path, paths[repeated], reencoded=number % 2 == 1))
            shown.append(things[repeated])
        return shown
