"""Reads the bytes of plain files, members of tars and cells of tables, all by path."""

import errno
import hashlib
import os
from pathlib import Path

from spn4cir.files import file_hash
from spn4cir.images.crops import split_view
from spn4cir.images.table_cells import CELL_SUFFIXES
from spn4cir.images.tars import find_member
from spn4cir.readable import check_file


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of a file, of a member of a tar, or of a cell of a table.

    Raises FileNotFoundError if it does not exist, InputError for a pipe or a device, a truncated or compressed tar, or
    a damaged table.
    """
    check_file(path)
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
    """Returns whether a path exists: a file, a member of a tar, a cell of a table with bytes, or a part of an image.

    Raises InputError for a truncated or compressed tar, or a damaged table.
    """
    path, _ = split_view(path)
    try:
        return path.is_file() or find_member(path) is not None or _cell(path) is not None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def content_hash(path: Path) -> str:
    """Returns the sha256 of the bytes at a path, in hex. Raises the errors of `read_bytes`."""
    try:
        return file_hash(path)
    except NotADirectoryError:
        return hashlib.sha256(read_bytes(path)).hexdigest()


def _cell(path: Path) -> bytes | None:
    """Returns the bytes of a cell of a table, or None; imports the library that reads tables only for such paths."""
    if not any(parent.suffix in CELL_SUFFIXES for parent in path.parents):
        return None
    from spn4cir.images.table_cells import read_cell

    return read_cell(path)
