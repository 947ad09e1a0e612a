"""The one decoder of image files; free of torch, so that decoding processes start at once."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from spn4cir.errors import InputError
from spn4cir.images.crops import split_view
from spn4cir.images.reading import read_bytes

_ADVICE = "replace the file or remove it; spn4cir check-data lists all such files of a data set"
_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
# Formats whose grey values have 16 bits, or as many as a TIFF says; None: a picture that a program made.
_SIXTEEN_BIT = {
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), frozenset({"PNG", "TIFF", "JPEG2000", "PPM", None})),
    "I": frozenset({"PNG", "PPM"}),
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF
EMPTY = "is empty (0 bytes)"
# What a shop sends in the place of a picture that is gone.
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
_START = 512


def open_image(path: Path) -> Image.Image:
    """The decoded image, with 8 bits a channel.

    The path may lead into a tar or a table (`spn4cir.images.reading`), and to a part of it (`spn4cir.images.crops`).

    What is read of a file, whatever reads it:

    - The mode of the file is kept (1-bit, grey, palette, RGB, RGBA, LA, CMYK, ...), because the original code resizes
      in that mode. `to_rgb` is the only conversion to RGB, and comes after the crop where the network reads the image.
      It drops transparency without blending: RGBA and LA keep the colours under their alpha, palettes those of their
      entries. CMYK is converted by Pillow's formula. 1-bit images become black and white.
    - 16-bit grey images (PNG, TIFF, PGM, JPEG 2000; `I;16` and its byte orders, and `I` of a PNG or PGM, by the
      version of Pillow) become 8-bit grey: the high byte of each value, so that 0 to 65535 become 0 to 255. Pillow
      does the same to 16-bit colour images, which it opens as RGB. A TIFF of 12 bits is scaled by its own range, and
      one that counts from white is inverted, as Pillow does at 8 bits.
    - Other integers of 32 bits (`I`) and floating point (`F`) are refused: no file says which value is white.
    - Of an animation, and of a file with several pages, the first frame is read.
    - The EXIF orientation and colour profiles are not applied, as in the original code.

    Raises InputError when the file is absent, truncated, no image, or of a mode that is refused.
    """
    try:
        found = _decode(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the data folder, or run with missing: skip") from None
    if isinstance(found, str):
        reason = found if found.startswith("cannot be decoded") else f"cannot be decoded ({found})"
        raise InputError(f"{path}: {reason}; {_ADVICE}")
    return found


def open_rgb(path: Path) -> Image.Image:
    """The image in RGB, by the rules of `open_image` and `to_rgb`. Raises InputError as `open_image`."""
    return to_rgb(open_image(path))


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in RGB, by the rules of `open_image`; one that is RGB is given back itself.

    Raises ValueError for a mode that is refused.
    """
    return image if image.mode == "RGB" else eight_bit(image).convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """A decoded image with 8 bits a channel, by the rules of `open_image`.

    Raises ValueError for a mode that is refused.
    """
    if image.mode in _EIGHT_BIT:
        return image
    if image.format not in _SIXTEEN_BIT.get(image.mode, ()):
        raise ValueError(f"its pixels are of mode {image.mode}, of no fixed range: save it with 8 or 16 bits a channel")
    tags = getattr(image, "tag_v2", {})
    bits = min((16, *tags.get(_BITS_PER_SAMPLE, ())))
    values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values)


def image_fault(path: Path) -> str:
    """Why an image cannot be used, without its path; empty where it can be decoded to its last pixel."""
    try:
        found = _decode(path)
    except FileNotFoundError:
        return "is not there"
    except InputError as error:  # of the tar or the table that the path leads into
        return str(error).removeprefix(f"{path}: ")
    return found.replace(f"{str(path)!r}", "it") if isinstance(found, str) else ""


def _decode(path: Path) -> Image.Image | str:
    """The decoded image, or what is wrong with it. Raises FileNotFoundError, and InputError as `read_bytes`."""
    file, view = split_view(path)
    try:
        image = _opened(file)
        image.load()
        image = eight_bit(image)
        return view(image) if view else image
    except (FileNotFoundError, InputError):
        raise
    except UnidentifiedImageError:  # its words name an object in memory where the picture lies in a table
        return _other_content(file) or "cannot be decoded (no known picture format)"
    except Exception as error:  # Pillow's decoders end in whatever a damaged file leads them to
        return _other_content(file) or f"cannot be decoded ({str(error) or type(error).__name__})"


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except NotADirectoryError:
        return Image.open(BytesIO(read_bytes(path)))


def _other_content(path: Path) -> str:
    """What a file holds in the place of a picture, where its first bytes tell; empty where they do not."""
    try:
        start = read_bytes(path)[:_START]
    except OSError:
        return ""
    if not start:
        return EMPTY
    return "is a web page, not a picture" if start.lstrip().lower().startswith(_PAGE) else ""


def image_digest(image: Image.Image) -> bytes:
    """A digest of a decoded image: of its shape and its RGB values, as `pixel_digest` makes it of a file."""
    image = to_rgb(image)
    digest = hashlib.blake2b(f"{image.width} {image.height} ".encode(), digest_size=32)
    digest.update(image.tobytes())
    return digest.digest()


def pixel_digest(path: Path) -> bytes:
    """A digest of the decoded image: of its shape and its RGB values.

    Raises InputError when the file cannot be decoded.
    """
    return image_digest(open_image(path))
