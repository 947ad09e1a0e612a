"""Pictures that strangers send: bounded before they are decoded."""

from io import BytesIO

from PIL import Image, UnidentifiedImageError

from spn4cir.images.decoding import eight_bit
from spn4cir.serving.refusal import Refusal

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
_MOST = f"the {MAX_PIXELS / 1e6:.0f} million that are read"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def decode_upload(data: bytes) -> Image.Image:
    """The decoded picture, as `spn4cir.images.decoding.open_image` reads a file.

    Its size is read off the header before any pixel is decoded, so that a small file cannot ask for much memory.

    Raises:
        Refusal: no bytes or broken ones (422), too many bytes or pixels (413), a type that is not read (415).
    """
    if not data:
        raise Refusal(422, "the image is empty (0 bytes); send the file itself")
    if len(data) > MAX_BYTES:
        raise too_large()
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_pixels(image)
        image.load()
        _check_pixels(image)  # a GIF's first frame may be larger than its header says
        return eight_bit(image)
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal(
            415, "the image is broken or of a type that is not read; send PNG, JPEG, WebP, BMP or GIF"
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(f"far more pixels than {_MOST}") from None
    except Exception as error:  # Pillow's decoders end in whatever a made-up file leads them to
        raise Refusal(422, f"the image is broken ({error}); send another file") from None


def too_large() -> Refusal:
    """For a file, or a request, of too many bytes."""
    return Refusal(413, f"the upload is larger than {MAX_BYTES / 1e6:.0f} MB; send a smaller picture")


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(f"{image.width:,} x {image.height:,} pixels, more than {_MOST}")


def _too_many_pixels(found: str) -> Refusal:
    return Refusal(413, f"the image has {found}; scale it down")
