"""Parts of images by one kind of path: `1.jpg/crop=10,20,30,40,0.7` is a box of `1.jpg`, as `a.tar/b.jpg` is of a tar.

Free of torch, as decoding is.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import Image

_PREFIX = "crop="


@dataclass(frozen=True)
class Crop:
    """A box of an image, grown, cut at the image's borders and padded with black to a square, the box in the middle.

    Attributes:
        left: of the box, in pixels.
        top: likewise.
        width: likewise.
        height: likewise.
        grow: by which share of its width and height it grows: its left and top move out by so much, and the grown box
            is (1 + grow) times as wide and high from there.

    Source: the evaluation of GeneCIS, https://github.com/facebookresearch/genecis.
    """

    left: float
    top: float
    width: float
    height: float
    grow: float

    def of(self, image: Path) -> Path:
        """The path of this part of an image."""
        return image / (_PREFIX + ",".join(map(str, astuple(self))))

    def __call__(self, image: Image.Image) -> Image.Image:
        """The part of a decoded image. Raises ValueError where nothing of the image is in it."""
        left, top = max(0.0, self.left - self.grow * self.width), max(0.0, self.top - self.grow * self.height)
        right = min(float(image.width), left + (1 + self.grow) * self.width)
        bottom = min(float(image.height), top + (1 + self.grow) * self.height)
        box = (round(left), round(top), round(right), round(bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"the box {box} holds no pixel of {image.width} x {image.height}")
        part = image.crop(box)
        side = max(part.size)
        square = Image.new(part.mode, (side, side))
        square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
        return square


def split_view(path: Path) -> tuple[Path, Crop | None]:
    """The file of an image, and the part of it that the path means; None: the whole."""
    if not path.name.startswith(_PREFIX):
        return path, None
    return path.parent, Crop(*map(float, path.name.removeprefix(_PREFIX).split(",")))
