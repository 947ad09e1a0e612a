"""Small copies of images, each in the page once however often it is shown."""

import base64
from io import BytesIO
from pathlib import Path

from spn4cir.images.decoding import open_rgb

_QUALITY = 75


class Thumbnails:
    """Collects images as CSS classes.

    An `img` element with such a class shows its image as the background: the element has the alt text, the style
    sheet the bytes, once.

    Args:
        side: what the longer side of an image is scaled down to, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._class: dict[Path, str] = {}
        self._of_bytes: dict[str, str] = {}

    def add(self, path: Path) -> str:
        """The class of an image's thumbnail; equal ones share it. Raises InputError for a file that does not decode."""
        if path not in self._class:
            encoded = self._encode(path)
            self._class[path] = self._of_bytes.setdefault(encoded, f"t{len(self._of_bytes)}")
        return self._class[path]

    def _encode(self, path: Path) -> str:
        image = open_rgb(path)
        image.thumbnail((self.side, self.side))
        stream = BytesIO()
        image.save(stream, format="WEBP", quality=_QUALITY, method=6)
        return base64.b64encode(stream.getvalue()).decode()

    def css(self) -> str:
        """The rules of all classes."""
        rules = (
            f".{name}{{background-image:url(data:image/webp;base64,{encoded})}}"
            for encoded, name in self._of_bytes.items()
        )
        return "\n".join(rules)
