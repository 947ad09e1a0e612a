"""Decoding of image files; free of torch, so that decoding processes start at once."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from spn4cir.errors import InputError
from spn4cir.members import read_bytes


def open_image(path: Path) -> Image.Image:
    """The decoded image, in the mode of its file; the path may lead into a tar (`spn4cir.members`).

    Raises InputError when the file is absent, truncated or no image.
    """
    try:
        image = _opened(path)
        image.load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the data folder, or run with missing: skip") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders end in whatever a damaged file leads them to
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be decoded ({reason}); replace the file or remove it") from None
    return image


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except NotADirectoryError:
        return Image.open(BytesIO(read_bytes(path)))
