"""Images with a fault, and images that look odd and are valid."""

import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.faults.attempts import Case
from tests.faults.places import Place, spoil

KIND = "images"
FILE = "mugs/0.png"
_CUTS = 50
# Formats that Pillow reads and writes, with the mode in which a format stores an image if that is not RGB.
_FORMATS = {
    "AVIF": "RGB", "BLP": "P", "BMP": "RGB", "DDS": "RGB", "DIB": "RGB", "GIF": "P", "ICNS": "RGBA", "ICO": "RGBA",
    "IM": "RGB", "JPEG": "RGB", "JPEG2000": "RGB", "MPO": "RGB", "MSP": "1", "PCX": "RGB", "PNG": "RGB", "PPM": "RGB",
    "QOI": "RGB", "SGI": "RGB", "TGA": "RGB", "TIFF": "RGB", "WEBP": "RGB", "XBM": "1",
}  # fmt: skip
_CUT = ("PNG", "JPEG", "WEBP", "TIFF")
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "TIFF": ("CMYK", "L", "LAB", "I;16", "YCbCr"),
    "JPEG": ("CMYK", "L"), "WEBP": ("RGBA",),
}  # fmt: skip
_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}


def _command(content: bytes | Callable[[Path], object], place: Place) -> Sequence[object]:
    root = place.copy("folder")
    if callable(content):
        (root / FILE).unlink()
        content(root / FILE)
    else:
        spoil(root / FILE, content)
    arguments = "--annotations", root / "triplets.csv", "--out", "unique.json", "--workers", 0
    return "dedup", "--layout", "folder", "--root", root, *arguments


@cache
def drawn(kind: str, mode: str = "RGB", side: int = 48) -> bytes:
    """Returns the bytes of an image of noise in a format and mode."""
    noise = np.random.default_rng(7).integers(0, 256, (side, side, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
    elif mode == "LAB":
        image = Image.frombytes("LAB", image.size, noise.tobytes())
    else:
        image = image.convert(mode)
    stream = BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _saved(**options: object) -> bytes:
    stream = BytesIO()
    Image.open(BytesIO(drawn("PNG"))).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Returns a PNG of a stated size with further chunks, whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _black(side: int) -> bytes:
    """Returns a small file with many pixels, all black."""
    stream = BytesIO()
    Image.new("L", (side, side)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _jpeg_of(side: int) -> bytes:
    content = drawn("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", side, side) + content[place + 4 :]


def _wide_frame() -> bytes:
    """Returns a GIF whose first frame is larger than its header states."""
    content = bytearray(_saved(format="GIF"))
    place = content.index(b"\x2c\0\0\0\0")
    content[place + 5 : place + 9] = struct.pack("<HH", 65_535, 65_535)
    return bytes(content)


def _postscript() -> bytes:
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(ran) (w) file closefile\nshowpage\n%%EOF\n"
    )


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket has at most 108 characters
        made.bind(path.name)
        os.chdir(here)


_BROKEN: dict[str, Callable[[], bytes]] = {
    "of zero bytes": lambda: b"",
    "a web page": lambda: b"<!DOCTYPE html><html><title>gone</title></html>",
    "a text": lambda: b"not found",
    "an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a PDF": lambda: _saved(format="PDF"),
    "PostScript": _postscript,
    "an archive": lambda: b"PK\x03\x04" + b"\0" * 100,
    "a film": lambda: b"\0\0\0\x18ftypmp42" + b"\0" * 100,
    "of floating point": lambda: _float(),
    "of 0 pixels": lambda: _png(0, 0),
    "of 0 pixels a row": lambda: _png(0, 10),
    "of 3,600 megapixels in its header": lambda: _png(60_000, 60_000),
    "of 4,290 megapixels in its header, a JPEG": lambda: _jpeg_of(65_500),
    "a bomb of 196 megapixels": lambda: _black(14_000),
    "a bomb in a frame": _wide_frame,
    "a bomb in a text": lambda: _png(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 100_000_000))),
    "a bomb in a colour profile": lambda: _png(8, 8, (b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 100_000_000))),
    "without its pixels": lambda: _png(4_000, 4_000),
    "of a wrong checksum": lambda: drawn("PNG").replace(b"IDAT", b"IDBT"),
    "zeros after its beginning": lambda: drawn("JPEG")[:40] + b"\0" * 4_000,
    "a page of zeros": lambda: b"\0" * 4_096,
}


def _float() -> bytes:
    stream = BytesIO()
    Image.new("F", (8, 8)).save(stream, "TIFF")
    return stream.getvalue()


def _animated(kind: str) -> bytes:
    frames = [Image.open(BytesIO(drawn("PNG", side=side))).resize((48, 48)) for side in (48, 24, 12)]
    stream = BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _transparent() -> bytes:
    stream = BytesIO()
    image = Image.open(BytesIO(drawn("PNG", "P")))
    image.save(stream, "PNG", transparency=bytes(range(256)))
    return stream.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(format="JPEG", exif=exif)


_VALID: dict[str, Callable[[], bytes]] = {
    "an animated GIF": lambda: _animated("GIF"),
    "an animated PNG": lambda: _animated("PNG"),
    "an animated WebP": lambda: _animated("WEBP"),
    "a TIFF of several pages": lambda: _animated("TIFF"),
    "a palette with transparency": _transparent,
    "turned by EXIF": _turned,
    "with damaged EXIF": lambda: _saved(format="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "progressive": lambda: _saved(format="JPEG", progressive=True),
    "of one pixel": lambda: drawn("PNG", side=1),
    "with bytes after its end": lambda: drawn("JPEG") + b"\0" * 1_000,
    "with a web page after its end": lambda: drawn("PNG") + b"<html>",
}
_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "pipe"),
    "a socket": (_socket, "pipe"),
    "a link to an endless device": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "a link to nothing": (lambda path: path.symlink_to("gone.png"), "0.png"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "0.png"),
    "a folder": (Path.mkdir, "0.png"),
    "not there": (lambda path: None, "0.png"),
}


def _misnamed(words: Sequence[object], place: Place) -> Sequence[object]:
    """A command over a folder in which the name of a further image is not UTF-8."""
    root = place.copy("folder")
    spoil(root / os.fsdecode(b"mugs/\xff.png"), drawn("PNG"))
    return *words, "--layout", "folder", "--root", root, "--annotations", root / "triplets.csv", "--workers", 0


def _misnamed_cases() -> Iterator[Case]:
    wrong = r"1 of 9 images whose names are not UTF-8, the first is 'mugs/\\udcff\.png'; rename"
    dedup = "dedup", "--out", "unique.json"
    yield Case(KIND, "named in no UTF-8, dedup", partial(_misnamed, dedup), wrong)
    skip = partial(_misnamed, (*dedup, "--missing", "skip"))
    yield Case(KIND, "named in no UTF-8, left out", skip, "left out 1 of 9 images whose names are not UTF-8", 0)


def _with(make: Callable[[], bytes], place: Place) -> Sequence[object]:
    return _command(make(), place)


def _cut(kind: str, number: int, place: Place) -> Sequence[object]:
    whole = drawn(kind)
    return _command(whole[: (len(whole) - 64) * number // _CUTS], place)


def cases() -> Iterator[Case]:
    """Yields the cases of images."""
    broken, works = r"mugs/0\.png: ", "7 images"
    for kind in _CUT:
        for number in range(_CUTS):
            yield Case(KIND, f"{kind} cut at {2 * number} %", partial(_cut, kind, number), broken)
    for name, make in _BROKEN.items():
        yield Case(KIND, name, partial(_with, make), broken)
    for name, (change, words) in _FILES.items():
        yield Case(KIND, name, partial(_command, change), words)
    for kind, mode in _FORMATS.items():
        if kind not in _OPTIONAL or features.check(_OPTIONAL[kind]):
            yield Case(KIND, f"of format {kind}", partial(_with, partial(drawn, kind, mode)), works, 0)
    for kind, modes in _MODES.items():
        for mode in modes:
            yield Case(KIND, f"{kind} of mode {mode}", partial(_with, partial(drawn, kind, mode)), works, 0)
    for name, make in _VALID.items():
        yield Case(KIND, name, partial(_with, make), works, 0)
    yield from _misnamed_cases()
