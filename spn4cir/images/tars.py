"""Members of tars by path: `00000.tar/1.jpg` is a member of `00000.tar`.

A tar is never extracted. One pass over its headers finds the position of each member, from which its bytes are read. A
process keeps the index of a tar, and processes that are forked later inherit it. No file stays open between reads, so
processes and threads share no file position.

This module does not import torch, so that processes which decode images start fast.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, Shaped
from numpy import ndarray

from spn4cir.errors import InputError

# First bytes of gzip, bzip2, xz and zstd.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
# A tar ends with two blocks of zeros; a tar without them was truncated, possibly between two members.
_END = bytes(2 * tarfile.BLOCKSIZE)
# Writers fill the last record with zeros. More zeros are space that was reserved for an incomplete download.
_PADDING = 1 << 20


def member_names(tar: Path) -> list[str]:
    """Returns the names of the files in a tar, in order. Raises InputError for a truncated or compressed tar."""
    index = _current_index(tar)
    return [os.fsdecode(name) for name in index.names[np.argsort(index.offsets)].tolist()]


@dataclass(frozen=True)
class _Index:
    """Positions of the files in a tar, sorted by name; arrays, because each process of large data sets has an index."""

    names: Shaped[ndarray, " files"]
    offsets: Int64[ndarray, " files"]
    sizes: Int64[ndarray, " files"]

    def find(self, name: str) -> tuple[int, int] | None:
        """Returns the offset and size of a file in bytes, or None."""
        wanted = os.fsencode(name)
        if len(wanted) > self.names.itemsize:
            return None  # numpy would widen all names to compare them
        row = int(np.searchsorted(self.names, wanted))
        if row == len(self.names) or self.names[row] != wanted:
            return None
        return int(self.offsets[row]), int(self.sizes[row])


def tar_of(path: Path) -> Path | None:
    """Returns the tar that a path leads into, which may not exist; None for another path."""
    return next((parent for parent in path.parents if parent.suffix == ".tar"), None)


def find_member(path: Path) -> tuple[Path, int, int] | None:
    """Returns the tar of a path, with offset and size of the member; None if the tar or the member does not exist."""
    tar = tar_of(path)
    if tar is None or not tar.is_file():
        return None
    found = _current_index(tar).find(path.relative_to(tar).as_posix())
    return found and (tar, *found)


def _current_index(tar: Path) -> _Index:
    status = tar.stat()
    return _index(tar, status.st_size, status.st_mtime_ns)


@cache
def _index(tar: Path, size: int, modified: int) -> _Index:  # noqa: ARG001 - a tar that changed is read again
    places: dict[bytes, tuple[int, int]] = {}
    with tar.open("rb") as stream:
        for info in _headers(stream, tar):
            name = os.fsencode(_name(info))
            if b"\0" in name:
                raise InputError(f"{tar}: the name {_name(info)!r} contains a NUL; write the tar with other names")
            if name in places:
                raise InputError(f"{tar}: contains '{_name(info)}' twice; write the tar again without one of them")
            places[name] = info.offset_data, info.size
    names = sorted(places)
    offsets, sizes = np.array([places[name] for name in names], dtype=np.int64).reshape(-1, 2).T.copy()
    return _Index(np.array(names, dtype=np.bytes_), offsets, sizes)


def _name(info: tarfile.TarInfo) -> str:
    """Returns the name of a member, relative: joined to the tar, an absolute one would be a file of this machine."""
    return info.name.removeprefix("./").lstrip("/")


def _headers(stream: BinaryIO, path: Path) -> Iterator[tarfile.TarInfo]:
    """Yields the headers of the complete files in a tar.

    Raises InputError at the first incomplete file, and if the end of the tar is missing.
    """
    if os.pread(stream.fileno(), 8, 0).startswith(_COMPRESSED):
        raise InputError(f"{path}: is compressed, so that no image can be read by itself; decompress it first")
    length = os.fstat(stream.fileno()).st_size
    whole = 0
    try:
        tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - the stream is the caller's to close
        for info in tar:
            if info.size < 0:  # the position of the next header would be an earlier one, without end
                raise _cut(path, whole)
            if info.issparse():
                raise InputError(f"{path}: '{info.name}' is stored with holes; write the tar without --sparse")
            if info.isreg():
                if info.offset_data + info.size > length:
                    raise _cut(path, whole)
                whole += 1
                yield info
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError):
        raise _cut(path, whole) from None
    if os.pread(stream.fileno(), len(_END), tar.offset) != _END or length - tar.offset > _PADDING:
        raise _cut(path, whole)


def _cut(path: Path, whole: int) -> InputError:
    return InputError(f"{path}: is cut short or damaged after {whole} whole files; download this tar again")
