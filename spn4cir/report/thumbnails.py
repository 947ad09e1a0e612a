"""Small copies of images; the page contains each one once, even if it is shown several times."""

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from spn4cir.images.decoding import open_rgb

_QUALITY = 75
_RULE = ".{}{{background-image:url(data:image/webp;base64,{})}}"


class Thumbnails:
    """Collects images as CSS classes.

    An `img` element with such a class shows its image as the background. The element has the alternative text; the
    style sheet contains the bytes, once.

    Args:
        side: longer side of a thumbnail, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._encoded: dict[Path, str] = {}
        self._of_bytes: dict[str, str] = {}

    def add(self, path: Path) -> str:
        """Returns the CSS class of an image's thumbnail; equal ones share it. Raises InputError for a broken image."""
        return self._of_bytes.setdefault(self._bytes(path), f"t{len(self._of_bytes)}")

    def cost(self, paths: Iterable[Path]) -> int:
        """Returns the size of the CSS rules that these images would add. Raises InputError for a broken image."""
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
        """Returns the CSS rules of all classes."""
        return "\n".join(_RULE.format(name, encoded) for encoded, name in self._of_bytes.items())
