"""Pictures inside the rows of parquet and arrow files: `train.parquet/12/image` is row 12 of the column `image`.

A column of pictures holds encoded bytes, or structs of `bytes` and `path` as the library `datasets` writes them.
Nothing is unpacked: a parquet file is read forward in batches of a few rows, of which a thread keeps the last for each
column it reads; an arrow file is mapped. Going back begins a row group anew, so that pictures which are read in any
order want small row groups (the library writes 100 rows).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spn4cir.errors import InputError

# Of files whose rows hold pictures.
CELL_SUFFIXES = (".parquet", ".arrow")

_BATCH = 16
# Batches that a thread keeps; a table has two columns of pictures, and rows are read in turn.
_CURSORS = 4
_BUFFER = 1 << 20


def cell_path(file: Path, row: int, column: str) -> Path:
    """The path of a cell."""
    return file / str(row) / column


def read_cell(path: Path) -> bytes | None:
    """The bytes of a cell; None where it is null or the path leads to no cell.

    Raises InputError for a file that cannot be read or a column of another kind.
    """
    place = _place(path)
    if place is None:
        return None
    file, row, column = place
    mapped = open_rows(file).mapped
    if mapped is not None:
        value = encoded(mapped[column].slice(row, 1), f"{file}: column {column}")[0]
    else:
        value = _cursor(file, column).read(row)
    return value.as_py() or None


def _place(path: Path) -> tuple[Path, int, str] | None:
    """The file that a path leads into, with row and column; None where it leads into none."""
    file = next((parent for parent in path.parents if parent.suffix in CELL_SUFFIXES), None)
    if file is None or not file.is_file():
        return None
    row, _, column = path.relative_to(file).as_posix().partition("/")
    table = open_rows(file)
    if not row.isdecimal() or int(row) >= table.rows or column not in table.schema.names:
        return None
    return file, int(row), column


def encoded(column: pa.Array | pa.ChunkedArray, place: str) -> Any:
    """The encoded bytes in a column of pictures. Raises InputError for a column of another kind."""
    kind = column.type
    if pa.types.is_struct(kind) and "bytes" in [field.name for field in kind]:
        return pc.struct_field(column, "bytes")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column
    raise InputError(f"{place}: is of type {kind}; a picture is bytes, {{bytes, path}}, or a name")


@dataclass(frozen=True)
class TableRows:
    """A parquet or arrow file whose rows are read forward.

    Attributes:
        file: the file.
        schema: its columns.
        rows: how many there are.
        groups: first row of each part of a parquet file that can be read by itself.
        metadata: of a parquet file.
        mapped: an arrow file's content.
    """

    file: Path
    schema: pa.Schema
    rows: int
    groups: tuple[int, ...] = ()
    metadata: pq.FileMetaData | None = None
    mapped: pa.Table | None = None

    def batches(self, columns: Sequence[str], group: int | None = None) -> Iterator[pa.RecordBatch]:
        """The columns, a few rows at a time: of one part, or of all. Raises InputError for damaged data."""
        if self.mapped is not None:
            yield from self.mapped.select(list(columns)).to_batches(max_chunksize=_BATCH)
            return
        groups = range(len(self.groups)) if group is None else [group]
        with (
            _readable(self.file),
            pq.ParquetFile(self.file, metadata=self.metadata, buffer_size=_BUFFER) as opened,
        ):
            yield from opened.iter_batches(_BATCH, list(groups), list(columns), use_threads=False)


def open_rows(file: Path) -> TableRows:
    """The file's columns and parts. Raises InputError for one that is no such file."""
    status = file.stat()
    return _opened(file, status.st_size, status.st_mtime_ns)


@cache
def _opened(file: Path, size: int, modified: int) -> TableRows:  # noqa: ARG001 - a file that changed is read again
    if file.suffix == ".arrow":
        table = _mapped(file)
        return TableRows(file, table.schema, table.num_rows, mapped=table)
    with _readable(file):
        metadata = pq.read_metadata(file)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        starts = tuple(int(start) for start in np.cumsum([0, *counts])[:-1])
        return TableRows(file, metadata.schema.to_arrow_schema(), metadata.num_rows, starts, metadata)


def _mapped(file: Path) -> pa.Table:
    """A mapped arrow file: a stream, as the library `datasets` writes it, or a file with a footer."""
    with _readable(file):
        source = pa.memory_map(str(file))
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file}: cannot be read as {file.suffix[1:]} ({reason}); write or download it again"
        ) from None


class _Cursor:
    """Where the reading of a column stands."""

    def __init__(self, rows: TableRows, column: str) -> None:
        self.rows, self.column = rows, column
        self.group = -1
        self.iterator: Iterator[pa.RecordBatch] = iter(())
        self.first, self.batch = 0, pa.array([], pa.binary())

    def read(self, row: int) -> Any:
        """The scalar at a row of the file."""
        group = int(np.searchsorted(self.rows.groups, row, side="right")) - 1
        if group != self.group or row < self.first:
            self.group, self.first = group, self.rows.groups[group]
            self.batch = self.batch.slice(0, 0)
            self.iterator = self.rows.batches([self.column], group)
        while row >= self.first + len(self.batch):
            self.first += len(self.batch)
            self.batch = encoded(next(self.iterator).column(0), f"{self.rows.file}: column {self.column}")
        return self.batch[row - self.first]


class _Cursors(threading.local):
    """The cursors of a thread; a process that is forked begins anew."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.kept: OrderedDict[tuple[Path, str], _Cursor] = OrderedDict()


_OPEN = _Cursors()


def _cursor(file: Path, column: str) -> _Cursor:
    if _OPEN.process != os.getpid():
        _OPEN.kept, _OPEN.process = OrderedDict(), os.getpid()
    rows, key = open_rows(file), (file, column)
    found = _OPEN.kept.pop(key, None)
    if found is None or found.rows is not rows:
        found = _Cursor(rows, column)
    _OPEN.kept[key] = found
    while len(_OPEN.kept) > _CURSORS:
        _OPEN.kept.popitem(last=False)
    return found
