"""Images in the rows of parquet and arrow files: `train.parquet/12/image` is row 12 of the column `image`.

A column of images contains encoded bytes, or structs of `bytes` and `path` as the library `datasets` writes them.
Nothing is unpacked: a parquet file is read forward in batches of a few rows, and a thread keeps the last batch of each
column that it reads; an arrow file is memory-mapped. Reading an earlier row starts its row group again, so random
access is fast only with small row groups (the library writes 100 rows).
"""

import csv
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spn4cir.errors import InputError, first_line
from spn4cir.readable import check_file

# Endings of files whose rows contain images.
CELL_SUFFIXES = (".parquet", ".arrow")

_BATCH = 16
# Batches that a thread keeps; a table has two columns of images, which are read in turn.
_CURSORS = 4
_BUFFER = 1 << 20
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def cell_path(file: Path, row: int, column: str) -> Path:
    """Returns the path of a cell."""
    return file / str(row) / column


def read_cell(path: Path) -> bytes | None:
    """Returns the bytes of a cell, or None if it is null or does not exist.

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
    """Returns the file, row and column of the path of a cell; None if the file or the cell does not exist."""
    file = next((parent for parent in path.parents if parent.suffix in CELL_SUFFIXES), None)
    if file is None or not file.is_file():
        return None
    row, _, column = path.relative_to(file).as_posix().partition("/")
    table = open_rows(file)
    if not row.isdecimal() or int(row) >= table.rows or column not in table.schema.names:
        return None
    return file, int(row), column


def encoded(column: pa.Array | pa.ChunkedArray, place: str) -> Any:
    """Returns the encoded bytes in a column of images. Raises InputError for a column of another kind."""
    kind = column.type
    if pa.types.is_struct(kind):
        inside = [field.type for field in kind if field.name == "bytes"]
        if len(inside) == 1 and any(fits(inside[0]) for fits in (*_BYTES, pa.types.is_null)):
            return pc.struct_field(column, "bytes")
    if any(fits(kind) for fits in _BYTES):
        return column
    raise InputError(f"{place}: is of type {kind}, expected bytes, {{bytes, path}}, or a name")


def check_lengths(column: pa.Array | pa.ChunkedArray, name: str, place: Callable[[int], str]) -> None:
    """Raises InputError for a text that is longer than a cell of CSV may be (`csv.field_size_limit`).

    Args:
        column: some rows of a column; columns that contain no texts are not checked.
        name: name of the column.
        place: function from the position of a row to its place, for the message.
    """
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    texts = pc.list_flatten(column) if is_list else column
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    if not is_text(texts.type):
        return
    lengths, limit = pc.utf8_length(texts.cast(pa.large_string())), csv.field_size_limit()
    position = pc.index(pc.greater(lengths, limit), True).as_py()
    if position >= 0:
        row = pc.list_parent_indices(column)[position].as_py() if is_list else position
        raise InputError(
            f"{place(row)}: {name} has {lengths[position].as_py():,} characters, expected at most {limit:,}; shorten "
            "it, or remove the row"
        )


def is_text(kind: pa.DataType) -> bool:
    """Returns whether a column of a type contains texts."""
    return any(fits(kind) for fits in _TEXTS)


@dataclass(frozen=True)
class TableRows:
    """A parquet or arrow file whose rows are read forward.

    Attributes:
        file: the file.
        schema: its columns.
        rows: number of rows.
        groups: first row of each row group of a parquet file.
        metadata: metadata of a parquet file; None for an arrow file.
        mapped: memory-mapped content of an arrow file; None for a parquet file.
    """

    file: Path
    schema: pa.Schema
    rows: int
    groups: tuple[int, ...] = ()
    metadata: pq.FileMetaData | None = None
    mapped: pa.Table | None = None

    def batches(self, columns: Sequence[str], group: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yields the columns of one row group or of all, a few rows at a time. Raises InputError for damaged data."""
        if self.mapped is not None:
            yield from self.mapped.select(list(columns)).to_batches(max_chunksize=_BATCH)
            return
        groups = range(len(self.groups)) if group is None else [group]
        with (
            _readable(self.file),
            pq.ParquetFile(self.file, metadata=self.metadata, buffer_size=_BUFFER) as opened,
        ):
            expected, found = sum(opened.metadata.row_group(group).num_rows for group in groups), 0
            for batch in opened.iter_batches(_BATCH, list(groups), list(columns), use_threads=False):
                batch.validate(full=True)  # invalid offsets make a later access crash the process
                found += batch.num_rows
                yield batch
            if found != expected:
                raise ValueError(f"column '{columns[0]}' has {found:,} rows, expected {expected:,}")


def open_rows(file: Path) -> TableRows:
    """Reads the columns and row groups of a file. Raises InputError if it is not a parquet or arrow file."""
    check_file(file)
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
        schema = metadata.schema.to_arrow_schema()
        _check_names(schema)
        return TableRows(file, schema, metadata.num_rows, starts, metadata)


def _check_names(fields: Iterable[pa.Field]) -> None:
    """Raises ValueError for a name of a column, or of a part of one, that is no UTF-8."""
    for each in fields:
        _ = each.name  # is decoded when it is accessed
        _check_names(each.type.field(number) for number in range(each.type.num_fields))


def _mapped(file: Path) -> pa.Table:
    """Memory-maps an arrow file: a stream, as the library `datasets` writes it, or a file with a footer."""
    with _readable(file):
        source = pa.memory_map(str(file))
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_file(source).read_all()
        _check_names(table.schema)
        table.validate(full=True)  # checks offsets and texts, not the bytes of images
        return table


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{file}: cannot be read as {file.suffix[1:]} ({first_line(error)}); write or download it again"
        ) from None


class _Cursor:
    """The reading position in a column of a parquet file."""

    def __init__(self, rows: TableRows, column: str) -> None:
        self.rows, self.column = rows, column
        self.group = -1
        self.iterator: Iterator[pa.RecordBatch] = iter(())
        self.first, self.batch = 0, pa.array([], pa.binary())

    def read(self, row: int) -> Any:
        """Returns the scalar at a row of the file."""
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
    """The cursors of a thread; a forked process starts without any."""

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
