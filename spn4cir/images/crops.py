"""Paths of parts of images: `1.jpg/crop=10,20,30,40,0.7` is a box of `1.jpg`.

This module does not import torch, so that processes which decode images start fast.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import Image

_PREFIX = "crop="


@dataclass(frozen=True)
class Crop:
    """A box of an image, enlarged, clipped at the image's borders and centred in a black square.

    Attributes:
        left: left edge of the box, in pixels.
        top: top edge of the box, in pixels.
        width: width of the box, in pixels.
        height: height of the box, in pixels.
        grow: share of width and height by which the box is enlarged: its left and top edges move out by this share,
            and from there the box is (1 + grow) times as wide and high.

    Source: the evaluation of GeneCIS, https://github.com/facebookresearch/genecis.
    """

    left: float
    top: float
    width: float
    height: float
    grow: float

    def of(self, image: Path) -> Path:
        """Returns the path of this part of an image."""
        return image / (_PREFIX + ",".join(map(str, astuple(self))))

    def __call__(self, image: Image.Image) -> Image.Image:
        """Crops a decoded image. Raises ValueError if the box contains no pixel of the image."""
        left, top = max(0.0, self.left - self.grow * self.width), max(0.0, self.top - self.grow * self.height)
        right = min(float(image.width), left + (1 + self.grow) * self.width)
        bottom = min(float(image.height), top + (1 + self.grow) * self.height)
        box = (round(left), round(top), round(right), round(bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"the box {box} contains no pixel of {image.width} x {image.height}")
        part = image.crop(box)
        side = max(part.size)
        square = Image.new(part.mode, (side, side))
        square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
        return square


def split_view(path: Path) -> tuple[Path, Crop | None]:
    """Returns the file of an image, and the crop in the path; None for the whole image."""
    if not path.name.startswith(_PREFIX):
        return path, None
    return path.parent, Crop(*map(float, path.name.removeprefix(_PREFIX).split(",")))
