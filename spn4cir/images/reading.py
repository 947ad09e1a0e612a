"""Bytes of plain files, members of tars and cells of tables, by one kind of path."""

import errno
import hashlib
import os
from pathlib import Path

from spn4cir.files import file_hash
from spn4cir.images.crops import split_view
from spn4cir.images.table_cells import CELL_SUFFIXES
from spn4cir.images.tars import find_member


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, of a member of a tar, or of a cell of a table.

    Raises FileNotFoundError where there is none, InputError for a tar that is cut short or compressed, or a damaged
    table.
    """
    try:
        return path.read_bytes()
    except NotADirectoryError:
        place = find_member(path)
    if place is None:
        content = _cell(path)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return content
    tar, offset, size = place
    with tar.open("rb") as stream:
        return os.pread(stream.fileno(), size, offset)


def is_there(path: Path) -> bool:
    """Whether the path is a file, a member of a tar, or a cell of a table that holds bytes; or a part of such an image.

    Raises as `read_bytes`.
    """
    path, _ = split_view(path)
    return path.is_file() or find_member(path) is not None or _cell(path) is not None


def content_hash(path: Path) -> str:
    """sha256 of the bytes of a file, a tar's member or a table's cell, in hex. Raises as `read_bytes`."""
    try:
        return file_hash(path)
    except NotADirectoryError:
        return hashlib.sha256(read_bytes(path)).hexdigest()


def _cell(path: Path) -> bytes | None:
    """The bytes of a cell of a table, if the path leads to one. The library that reads it is loaded for these alone."""
    if not any(parent.suffix in CELL_SUFFIXES for parent in path.parents):
        return None
    from spn4cir.images.table_cells import read_cell

    return read_cell(path)
