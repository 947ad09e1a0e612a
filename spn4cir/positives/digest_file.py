"""Digests of images in a file that grows: a killed run continues after them.

The file consists of blocks: the number of digests, their CRC-32, and the digests. A block that a killed process wrote
in part, or that a power cut left without its content, ends what is read.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spn4cir.files import disk_errors
from spn4cir.positives.equal_images import DIGEST_BYTES

# Digests of a block: a kill loses fewer.
BLOCK = 64
_HEAD = struct.Struct("<II")


def read_digests(path: Path) -> bytearray:
    """Returns the digests of all whole blocks, one after the other; none if there is no file."""
    return _whole_blocks(path)[0]


@contextmanager
def appended(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yields a function that stores digests behind those of `read_digests`.

    Raises InputError if the file cannot be written.
    """
    block = bytearray()
    with disk_errors(path):
        stream = path.open("ab", buffering=0)
        stream.truncate(_whole_blocks(path)[1])

    def write() -> None:
        with disk_errors(path):
            stream.write(_HEAD.pack(len(block) // DIGEST_BYTES, zlib.crc32(block)) + block)
        block.clear()

    def keep(digest: bytes) -> None:
        block.extend(digest)
        if len(block) == BLOCK * DIGEST_BYTES:
            write()

    try:
        yield keep
    finally:
        if block:
            write()
        stream.close()


def _whole_blocks(path: Path) -> tuple[bytearray, int]:
    """The digests of the whole blocks of a file, and the length of these blocks."""
    content = path.read_bytes() if path.is_file() else b""
    found, end = bytearray(), 0
    while len(content) - end >= _HEAD.size:
        count, checksum = _HEAD.unpack_from(content, end)
        digests = content[end + _HEAD.size : end + _HEAD.size + count * DIGEST_BYTES]
        if not count or len(digests) < count * DIGEST_BYTES or zlib.crc32(digests) != checksum:
            break
        found += digests
        end += _HEAD.size + len(digests)
    return found, end
