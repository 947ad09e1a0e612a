"""The file of an index that is being made: a header, and a record for each batch, appended and never changed.

A record is a fixed head, the images (`IMAGE`), and for each new crop its hash and its targets. The head contains the
CRC-32 of all of it: a record that a killed process wrote in part is recognised, and removed by the next process. A
record is handed to the system whole, without a buffer of this process: only a power cut can lose written ones.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spn4cir.errors import InputError
from spn4cir.file_locks import is_at, lock_file
from spn4cir.files import disk_errors
from spn4cir.readable import real_path
from spn4cir.search.image_files import DIGEST_BYTES

RECORDS = "records"
# The header is this and a JSON object in one line.
_MAGIC = b"spn4cir unfinished index "
_LONGEST_HEADER = 4096
# An image: the hash of its path, size and time, and its digests.
IMAGE = np.dtype([("stamp", "<u8", (2,)), ("digest", f"V{DIGEST_BYTES}"), ("crop", f"V{DIGEST_BYTES}")])
# Images, crops, tokens and dimension of a crop's targets (0 tokens: the targets have one axis), CRC-32.
_HEAD = struct.Struct("<5I")
_UNCHECKED = _HEAD.size - 4
_TRIES = 100
# The folders that this process writes to: a lock of the system only excludes other processes.
_held: set[Path] = set()


class BatchRecord(NamedTuple):
    """A record that was read.

    Attributes:
        images: the images, of type `IMAGE`.
        crops: the hashes of the new crops, one after the other.
        shape: the shape of a crop's targets; empty without crops.
        offset: the place in the file of the first crop's targets.
    """

    images: ndarray
    crops: bytes
    shape: tuple[int, ...]
    offset: int


class UnfinishedFile:
    """The file `records` of a folder, which this process alone writes to until it closes it.

    The folder is made. A file of other settings, or of another format, is begun again; a line says so.

    Args:
        folder: the folder, which contains nothing else.
        settings: what the records depend on, as a JSON-like value.
        dtype: the precision of targets.

    Raises:
        InputError: the folder contains something else or cannot be written, or it is being written to.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.folder, self.dtype = folder, dtype
        check_unfinished(folder)
        with disk_errors(folder):
            self._stream = _take(folder)
            try:
                self._end = self._begin(settings)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Lets other processes write to the file."""
        self._stream.close()
        _held.discard(real_path(self.folder))

    def records(self) -> Iterator[BatchRecord]:
        """Yields the records, and removes what follows the last one that is whole."""
        size = os.fstat(self._stream.fileno()).st_size
        while record := self._read(size):
            yield record
        self._stream.truncate(self._end)

    def append(self, images: ndarray, crops: bytes, targets: Float[ndarray, "crops ..."] | None) -> None:
        """Adds a record. Raises InputError if the disk is full; a part of the record that is written is not read.

        Args:
            images: the images, of type `IMAGE`.
            crops: the hashes of the new crops, one after the other.
            targets: their targets, in the precision of the file, of shape (crops, dim) or (crops, tokens, dim).
        """
        shape = () if targets is None else targets.shape[1:]
        tokens, dim = (0, *shape)[-2:] if shape else (0, 0)
        head = _HEAD.pack(len(images), len(crops) // DIGEST_BYTES, tokens, dim, 0)[:_UNCHECKED]
        content = b"".join((head, images.tobytes(), crops, b"" if targets is None else targets.tobytes()))
        record = content[:_UNCHECKED] + struct.pack("<I", zlib.crc32(content)) + content[_UNCHECKED:]
        with disk_errors(self.folder, "the images before are kept"):
            self._write(record)
        self._end += len(record)

    def targets(self, offset: int, crops: int, shape: tuple[int, ...]) -> Float[ndarray, "crops ..."]:
        """Reads the targets of successive crops of a record, from a place in the file."""
        content = os.pread(self._stream.fileno(), crops * self.target_bytes(shape), offset)
        return np.frombuffer(content, self.dtype).reshape(crops, *shape)

    def _begin(self, settings: Mapping[str, Any]) -> int:
        """Reads the header, or writes one into a file with another one; returns its length."""
        wanted = {**settings, "precision": self.dtype.name}
        header, whole, _ = self._stream.read(_LONGEST_HEADER).partition(b"\n")
        if (found := _parsed(header)) == wanted:
            return len(header) + 1
        if whole:
            differing = next((key for key in wanted if found.get(key) != wanted[key]), "format")
            print(f"index: {self.folder}: has another {differing}; it is begun again", flush=True)
        self._stream.truncate(0)
        self._end = 0
        header = _MAGIC + json.dumps(wanted).encode() + b"\n"
        self._write(header)
        return len(header)

    def _write(self, content: bytes) -> None:
        """Writes at the end of the records. Raises OSError."""
        left = memoryview(content)
        self._stream.seek(self._end)
        while left:
            left = left[self._stream.write(left) :]

    def _read(self, size: int) -> BatchRecord | None:
        """Reads the record behind the last one that was read; None if it is cut or damaged."""
        self._stream.seek(self._end)
        head = self._stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        images, crops, tokens, dim, checksum = _HEAD.unpack(head)
        shape = ((tokens, dim) if tokens else (dim,)) if crops else ()
        hashes = images * IMAGE.itemsize
        before = hashes + crops * DIGEST_BYTES
        length = before + (crops * self.target_bytes(shape) if crops else 0)
        if self._end + _HEAD.size + length > size:
            return None
        content = _read_whole(self._stream, length)
        if zlib.crc32(content, zlib.crc32(head[:_UNCHECKED])) != checksum:
            return None
        offset = self._end + _HEAD.size + before
        self._end += _HEAD.size + length
        return BatchRecord(np.frombuffer(content, IMAGE, images), content[hashes:before], shape, offset)

    def target_bytes(self, shape: tuple[int, ...]) -> int:
        """The bytes of a crop's targets of a shape."""
        return prod(shape) * self.dtype.itemsize


def check_unfinished(folder: Path) -> None:
    """Raises InputError for a place at which there is something else than the folder of an unfinished index."""
    remedy = "move it, or name another place for the index"
    with disk_errors(folder):
        if os.path.lexists(folder) and not folder.is_dir():
            raise InputError(f"{folder}: is not a folder, but the unfinished index is kept there; {remedy}")
        names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        if strange := [name for name in names if name != RECORDS]:
            raise InputError(f"{folder}: contains {strange[0]}, which is not part of an unfinished index; {remedy}")
        # To open and close the file would release a lock of this process.
        if names and real_path(folder) not in _held and not _is_ours(folder / RECORDS):
            raise InputError(f"{folder / RECORDS}: is not a file of an unfinished index; {remedy}")


def remove_unfinished(folder: Path) -> None:
    """Removes the folder of an unfinished index, unless it is something else or another process writes to it."""
    with suppress(OSError, InputError):
        check_unfinished(folder)
        if not folder.is_dir():
            return
        stream = _take(folder)
        try:
            (folder / RECORDS).unlink()
            folder.rmdir()
        finally:
            stream.close()
            _held.discard(real_path(folder))


def _is_ours(path: Path) -> bool:
    """Whether a file begins as one of ours; a process can have been killed within the first bytes."""
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as stream:
        return _MAGIC.startswith(stream.read(len(_MAGIC)))


def _parsed(header: bytes) -> dict[str, Any]:
    """The settings of a header; empty for one of another version, or that is cut."""
    try:
        found = json.loads(header.removeprefix(_MAGIC))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read_whole(stream: FileIO, length: int) -> bytes:
    """Reads bytes that the file has: one call returns at most 2 GB, or fewer after a signal."""
    parts = []
    while length and (part := stream.read(length)):
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _take(folder: Path) -> FileIO:
    """Opens the file of a folder, which is made, and locks it until it is closed.

    The lock is one of `spn4cir.file_locks`. Where a disk has no locks, the records of two processes replace
    each other; each of them is whole or is not read. Raises InputError if the file is locked; OSError.
    """
    busy = InputError(f"{folder}: another index command writes to it; wait for its end, or name another index")
    if (place := real_path(folder)) in _held:
        raise busy
    for _ in range(_TRIES):  # each try fails only if another process has just removed the folder
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            stream = FileIO(os.open(folder / RECORDS, os.O_RDWR | os.O_CREAT, 0o666), "r+")
            if not lock_file(stream):
                stream.close()
                raise busy
            if is_at(stream, folder / RECORDS):
                _held.add(place)
                return stream
            stream.close()
    raise busy
