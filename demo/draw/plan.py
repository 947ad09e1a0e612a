"""What a data set will hold, before anything is drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.draw.attributes import Thing

# Real data hold a few files that are not plain RGB.
MODES = ("RGB",) * 30 + ("P", "RGBA")


@dataclass(frozen=True)
class DrawnImage:
    """One image file that is drawn.

    Attributes:
        path: relative to the data set's root.
        thing: what it shows.
        seed: decides place, shade, noise and size.
        mode: the file's pixel mode.
    """

    path: str
    thing: Thing
    seed: str
    mode: str = "RGB"


@dataclass(frozen=True)
class Copy:
    """An image file with the same decoded pixels as another one.

    Attributes:
        path: relative to the data set's root.
        original: path of the image it repeats.
        reencoded: other file bytes, equal pixels.
    """

    path: str
    original: str
    reencoded: bool


@dataclass
class Plan:
    """All files of one data set: images, copies of images, and JSON texts by path."""

    images: list[DrawnImage] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    texts: dict[str, Any] = field(default_factory=dict)

    def add(self, paths: Sequence[str], things: Sequence[Thing], copies: int, rng: random.Random) -> list[Thing]:
        """Adds one file per path, and returns what each shows; the last `copies` repeat images before them."""
        originals = len(paths) - copies
        shown = list(things[:originals])
        for path, thing in zip(paths, shown, strict=False):
            self.images.append(DrawnImage(path, thing, seed=f"{rng.getrandbits(64):x}", mode=rng.choice(MODES)))
        for number, path in enumerate(paths[originals:]):
            repeated = rng.randrange(originals)
            self.copies.append(Copy(path, paths[repeated], reencoded=number % 2 == 1))
            shown.append(things[repeated])
        return shown
