"""Decoding of image files; free of torch, so that decoding processes start at once."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from spn4cir.errors import InputError
from spn4cir.members import read_bytes
from spn4cir.views import split_view

_ADVICE = "replace the file or remove it"


def open_image(path: Path) -> Image.Image:
    """The decoded image, in the mode of its file.

    The path may lead into a tar or a table (`spn4cir.members`), and to a part of the image (`spn4cir.views`).

    Raises InputError when the file is absent, truncated or no image.
    """
    try:
        file, view = split_view(path)
        image = _opened(file)
        image.load()
        return view(image) if view else image
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the data folder, or run with missing: skip") from None
    except InputError:
        raise
    except UnidentifiedImageError:  # its words name an object in memory where the picture lies in a table
        raise InputError(f"{path}: cannot be decoded (no known picture format); {_ADVICE}") from None
    except Exception as error:  # Pillow's decoders end in whatever a damaged file leads them to
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be decoded ({reason}); {_ADVICE}") from None


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except NotADirectoryError:
        return Image.open(BytesIO(read_bytes(path)))
