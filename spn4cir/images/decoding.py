"""The decoder of image files. It does not import torch, so that processes which decode images start fast."""

import hashlib
import warnings
from io import BytesIO
from mmap import mmap
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from spn4cir.errors import InputError
from spn4cir.images.crops import split_view
from spn4cir.images.reading import read_bytes
from spn4cir.readable import check_file

_ADVICE = "replace the file or remove it; spn4cir check-data lists all such files of a data set"
_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
# Formats whose grey values have 16 bits, or the number in a TIFF's tags; None is an image that was made in memory.
_SIXTEEN_BIT = {
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), frozenset({"PNG", "TIFF", "JPEG2000", "PPM", None})),
    "I": frozenset({"PNG", "PPM"}),
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF
EMPTY = "is empty (0 bytes)"
# Beginnings of web pages, which shops send instead of deleted images.
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
_START = 512
# Pillow refuses images with more pixels.
_MOST_PIXELS = 178_956_970
# Pillow warns of half as many pixels, which cameras and panoramas have, and of damage, which its error also states.
warnings.filterwarnings("ignore", module=r"PIL\.")
# PostScript, for which Pillow starts Ghostscript.
_PROGRAMS = frozenset({"EPS"})


def open_image(path: Path) -> Image.Image:
    """Decodes an image with 8 bits per channel.

    The path may be a file, a member of a tar or a cell of a table (`spn4cir.images.reading`), or a part of such an
    image (`spn4cir.images.crops`). All code of this package decodes images by these rules:

    - The mode of the file is kept (1-bit, grey, palette, RGB, RGBA, LA, CMYK, ...), because the original code resizes
      in that mode. `to_rgb` is the only conversion to RGB; for the networks, it follows the crop. It drops transparency
      without blending: RGBA and LA keep the colours under their alpha, palettes those of their entries. CMYK is
      converted by Pillow's formula. 1-bit images become black and white.
    - 16-bit grey images (PNG, TIFF, PGM, JPEG 2000; `I;16` and its byte orders, and `I` of a PNG or PGM, by the
      version of Pillow) become 8-bit grey: the high byte of each value, so that 0 to 65535 become 0 to 255. Pillow
      does the same to 16-bit colour images, which it opens as RGB. A TIFF of 12 bits is scaled by its own range, and
      one that counts from white is inverted, as Pillow does at 8 bits.
    - Other 32-bit integers (`I`) and floating point (`F`) are refused, because the file does not define white.
    - The first frame of an animation or of a file with several pages is read.
    - An image of more than 178,956,970 pixels is refused.
    - PostScript is refused, whatever the name of its file, because it is a program.
    - The EXIF orientation and colour profiles are not applied, as in the original code.

    Raises InputError if the file is absent, truncated, a pipe, not an image, or of a mode that is refused, and
    MemoryError if the machine has no memory for its pixels.
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
    """Decodes an image in RGB, by the rules of `open_image`. Raises InputError if it cannot be decoded."""
    return to_rgb(open_image(path))


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts a decoded image to RGB, by the rules of `open_image`; returns an RGB image unchanged.

    Raises ValueError for a mode that is refused.
    """
    return image if image.mode == "RGB" else eight_bit(image).convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """Converts a decoded image to 8 bits per channel, by the rules of `open_image`.

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
    """Returns why an image cannot be used, without its path; empty if it can be decoded to its last pixel."""
    try:
        found = _decode(path)
    except FileNotFoundError:
        return "is not there"
    except InputError as error:  # of the tar or the table that contains the image
        return str(error).removeprefix(f"{path}: ")
    return found.replace(f"{str(path)!r}", "it") if isinstance(found, str) else ""


def _decode(path: Path) -> Image.Image | str:
    """Returns the decoded image or its fault.

    Raises FileNotFoundError, InputError for a file that may not be read and for a damaged tar or table, and MemoryError
    if there is no memory for an image, so that it is not called broken.
    """
    file, view = split_view(path)
    try:
        image = _opened(file)
        image.load()
        _check_pixels(image)  # the first frame of a GIF may be larger than its header states
        image = eight_bit(image)
        return view(image) if view else image
    except (FileNotFoundError, InputError):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give this user the right to read it") from None
    except UnidentifiedImageError:  # for an image in a table, its message names an object in memory
        return _other_content(file) or "cannot be decoded (no known image format)"
    except MemoryError as error:  # also raised for damaged files, which state impossible sizes
        if _memory_is_short():
            raise MemoryError(f"{path}: no memory to decode it") from None
        return _other_content(file) or f"cannot be decoded ({str(error) or type(error).__name__})"
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        return _other_content(file) or f"cannot be decoded ({str(error) or type(error).__name__})"


def _memory_is_short() -> bool:
    """Whether there is no memory for an image of the largest size that is accepted. None of it is written to."""
    try:
        mmap(-1, 4 * _MOST_PIXELS).close()
    except OSError:
        return True
    return False


def _opened(path: Path) -> Image.Image:
    check_file(path)
    try:
        image: Image.Image = Image.open(path)
    except NotADirectoryError:
        image = Image.open(BytesIO(read_bytes(path)))
    if image.format in _PROGRAMS:
        raise ValueError(f"is of format {image.format}, which another program would have to run")
    _check_pixels(image)
    return image


def _check_pixels(image: Image.Image) -> None:
    if (pixels := image.width * image.height) > _MOST_PIXELS:
        raise ValueError(f"has {pixels:,} pixels, more than {_MOST_PIXELS:,}; scale it down")


def _other_content(path: Path) -> str:
    """Returns what a file contains instead of an image, if its first bytes show it; else an empty string."""
    try:
        start = _beginning(path)
    except OSError:
        return ""
    if not start:
        return EMPTY
    return "is a web page, not an image" if start.lstrip().lower().startswith(_PAGE) else ""


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_START)
    except NotADirectoryError:
        return read_bytes(path)[:_START]


def image_digest(image: Image.Image) -> bytes:
    """Returns the digest of a decoded image: 32 bytes of blake2b over its size and RGB values."""
    image = to_rgb(image)
    digest = hashlib.blake2b(f"{image.width} {image.height} ".encode(), digest_size=32)
    digest.update(image.tobytes())
    return digest.digest()


def pixel_digest(path: Path) -> bytes:
    """Returns the digest of the image in a file: 32 bytes of blake2b over its size and RGB values.

    Raises InputError if the file cannot be decoded.
    """
    return image_digest(open_image(path))
