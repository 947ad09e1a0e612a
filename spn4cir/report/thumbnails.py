"""Small copies of images, each in the page once however often it is shown."""

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from spn4cir.images.decoding import open_rgb

_QUALITY = 75
_RULE = ".{}{{background-image:url(data:image/webp;base64,{})}}"


class Thumbnails:
    """Collects images as CSS classes.

    An `img` element with such a class shows its image as the background: the element has the alt text, the style
    sheet the bytes, once.

    Args:
        side: what the longer side of an image is scaled down to, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._encoded: dict[Path, str] = {}
        self._of_bytes: dict[str, str] = {}

    def add(self, path: Path) -> str:
        """The class of an image's thumbnail; equal ones share it. Raises InputError for a file that does not decode."""
        return self._of_bytes.setdefault(self._bytes(path), f"t{len(self._of_bytes)}")

    def cost(self, paths: Iterable[Path]) -> int:
        """The size of the rules that these images would add. Raises InputError for a file that does not decode."""
        new = {self._bytes(path) for path in paths} - self._of_bytes.keys()
        return sum(len(_RULE.format("t00000", encoded)) + 1 for encoded in new)

    def _bytes(self, path: Path) -> str:
        if path not in self._encoded:
            self._encoded[path] = self._encode(path)
        return self._encoded[path]

    def _encode(self, path: Path) -> str:
        image = open_rgb(path)
        image.thumbnail((self.side, self.side))
        stream = BytesIO()
        image.save(stream, format="WEBP", quality=_QUALITY, method=6)
        return base64.b64encode(stream.getvalue()).decode()

    def css(self) -> str:
        """The rules of all classes."""
        return "\n".join(_RULE.format(name, encoded) for encoded, name in self._of_bytes.items())
