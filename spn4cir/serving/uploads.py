"""Decoding of uploaded images, with limits that are checked first."""

from io import BytesIO

from PIL import Image, UnidentifiedImageError

from spn4cir.images.decoding import eight_bit
from spn4cir.serving.refusal import Refusal

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
_LIMIT = f"the limit of {MAX_PIXELS / 1e6:.0f} million"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def decode_upload(data: bytes) -> Image.Image:
    """Decodes an upload as `spn4cir.images.decoding.open_image` decodes a file.

    The number of pixels is read from the header before any pixel is decoded, so that a small file cannot occupy much
    memory.

    Raises:
        Refusal: the file is empty or broken (422), has too many bytes or pixels (413), or has a type that is not
            supported (415).
    """
    if not data:
        raise Refusal(422, "the image is empty (0 bytes); send the file itself")
    if len(data) > MAX_BYTES:
        raise too_large()
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_pixels(image)
        image.load()
        _check_pixels(image)  # the first frame of a GIF may be larger than its header states
        return eight_bit(image)
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal(
            415, "the image is broken or its type is not supported; send PNG, JPEG, WebP, BMP or GIF"
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(f"far more pixels than {_LIMIT}") from None
    except Exception as error:  # Pillow's decoders raise many types for a crafted file
        raise Refusal(422, f"the image is broken ({error}); send another file") from None


def too_large() -> Refusal:
    """The refusal of a file or a request with too many bytes."""
    return Refusal(413, f"the upload is larger than {MAX_BYTES / 1e6:.0f} MB; send a smaller image")


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(f"{image.width:,} x {image.height:,} pixels, more than {_LIMIT}")


def _too_many_pixels(found: str) -> Refusal:
    return Refusal(413, f"the image has {found}; scale it down")
