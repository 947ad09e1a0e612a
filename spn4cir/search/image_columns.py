"""The images of an index as columns, as its parquet file contains them: about 340 bytes an image in memory."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64
from numpy import ndarray

_SCHEMA = pa.schema(
    {
        "name": pa.large_string(),
        "path": pa.large_string(),
        "size": pa.int64(),
        "modified": pa.int64(),
        "digest": pa.large_binary(),
        "crop": pa.large_binary(),
        "vector": pa.int64(),
    }
)
_KEY_BYTES = 8


def _hashes(content: bytearray, count: int) -> pa.Array:
    """Hashes of equal lengths, without a copy."""
    ends = np.arange(count + 1, dtype=np.int64) * (len(content) // max(count, 1))
    return pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(ends), pa.py_buffer(content)])


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """A row of the table. The fields are the columns of the parquet file.

    Attributes:
        path: absolute path of the file.
        size: size of the file, in bytes.
        modified: modification time of the file, in nanoseconds.
        digest: hash of the decoded pixels, equal for equal images whatever the format of the file.
        crop: hash of the cropped pixels that the network gets; images with the same one share a vector.
        vector: id of the vector of its targets.
    """

    path: str
    size: int
    modified: int
    digest: bytes
    crop: bytes
    vector: int


class ImageColumns:
    """Images sorted by name, which are never changed.

    Args:
        table: a table with the columns of the parquet file.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table.select(_SCHEMA.names).cast(_SCHEMA).combine_chunks()
        self._columns = {name: self._array(name) for name in _SCHEMA.names}
        self._lookup = cache(self._sorted_keys)

    def _array(self, name: str) -> pa.Array:
        chunks = self._table.column(name).chunks
        return chunks[0] if chunks else pa.array([], _SCHEMA.field(name).type)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def names(self) -> list[str]:
        """The names."""
        found: list[str] = self._columns["name"].to_pylist()
        return found

    def name(self, row: int) -> str:
        """The name of a row."""
        return str(self._columns["name"][row])

    def row(self, name: str) -> int | None:
        """The row of a name; None if there is none."""
        row = bisect_left(range(len(self)), name, key=self.name)
        return row if row < len(self) and self.name(row) == name else None

    def image(self, row: int) -> IndexedImage:
        """The image of a row."""
        return IndexedImage(*(self._columns[field][row].as_py() for field in IndexedImage.__slots__))

    def rows_with(self, column: str, value: int | bytes) -> list[int]:
        """The rows with a value of the column `vector`, `digest` or `crop`, sorted."""
        keys, order = self._lookup(column)
        key = value if isinstance(value, int) else int.from_bytes(value[:_KEY_BYTES], "little", signed=True)
        first, last = np.searchsorted(keys, key, side="left"), np.searchsorted(keys, key, side="right")
        values = self._columns[column]
        return sorted(row for row in order[first:last].tolist() if values[row].as_py() == value)

    @property
    def next_vector(self) -> int:
        """An id that is larger than those of all vectors."""
        return int(pc.max(self._columns["vector"]).as_py()) + 1 if len(self) else 0

    @property
    def vector_count(self) -> int:
        """The number of vectors that the images have."""
        return int(pc.count_distinct(self._columns["vector"]).as_py())

    def _sorted_keys(self, column: str) -> tuple[Int64[ndarray, " rows"], Int64[ndarray, " rows"]]:
        """A column as sorted integers, and their rows; of hashes, the first bytes."""
        values = self._columns[column]
        if not len(values):
            keys = np.empty(0, np.int64)
        elif column != "vector":
            heads = pc.binary_slice(values, 0, _KEY_BYTES).cast(pa.binary(_KEY_BYTES))
            keys = np.frombuffer(heads.buffers()[1], np.int64, len(heads), heads.offset * _KEY_BYTES)
        else:
            keys = values.to_numpy()
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def items(self) -> Iterator[tuple[str, IndexedImage]]:
        """Yields each name and its image."""
        return ((self.name(row), self.image(row)) for row in range(len(self)))

    def changed(
        self, hidden: Iterable[int], more: dict[str, IndexedImage], many: "ImageColumns | None" = None
    ) -> "ImageColumns":
        """A copy without some rows, and with other images and those of other columns."""
        keep = np.ones(len(self), bool)
        keep[list(hidden)] = False
        rows = [
            {"name": name, **{field: getattr(each, field) for field in IndexedImage.__slots__}}
            for name, each in more.items()
        ]
        parts = [self._table.filter(pa.array(keep)), pa.Table.from_pylist(rows, schema=_SCHEMA)]
        parts += [] if many is None else [many._table]
        # A part without rows would be a chunk, and several chunks are copied into one.
        return ImageColumns.in_order(pa.concat_tables([part for part in parts if len(part)] or parts[:1]))

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        paths: Iterable[str],
        sizes: "array[int]",
        times: "array[int]",
        digests: bytearray,
        crops: bytearray,
        vectors: Int64[ndarray, " images"],
    ) -> "ImageColumns":
        """The columns of images, whose fields are those of `IndexedImage`, in any order of the names.

        Args:
            names: a name for each image, each once.
            paths: the paths.
            sizes: the sizes.
            times: the modification times.
            digests: the hashes, one after the other, of equal lengths. They must not change any more.
            crops: the hashes, as `digests`.
            vectors: the ids of the vectors.
        """
        columns = {
            "name": pa.array(names, pa.large_string()),
            "path": pa.array(paths, pa.large_string(), size=len(names)),
            "size": pa.array(np.frombuffer(sizes, np.int64)),
            "modified": pa.array(np.frombuffer(times, np.int64)),
            "digest": _hashes(digests, len(names)),
            "crop": _hashes(crops, len(names)),
            "vector": pa.array(vectors),
        }
        return cls.in_order(pa.table(columns, schema=_SCHEMA))

    @classmethod
    def in_order(cls, table: pa.Table) -> "ImageColumns":
        """The columns of a table whose rows have any order."""
        names = table.column("name").combine_chunks()
        if not pc.all(pc.less_equal(names[:-1], names[1:])).as_py():  # None without a pair
            table = table.sort_by("name")
        return cls(table)

    def write(self, path: Path) -> None:
        """Writes a parquet file."""
        pq.write_table(self._table, path)

    @classmethod
    def read(cls, path: Path) -> "ImageColumns":
        """Reads a file of `write`.

        Raises ArrowException for an unreadable file, KeyError for a missing column, ValueError for other rows.
        """
        table = pq.read_table(path)
        table.validate(full=True)
        columns = cls(table)
        columns._check()
        return columns

    def _check(self) -> None:
        """Raises ValueError for rows that no index has."""
        names = self._columns["name"]
        if lacking := [name for name, values in self._columns.items() if values.null_count]:
            raise ValueError(f"the column '{lacking[0]}' has rows without a value")
        if pc.all(pc.less(names[:-1], names[1:])).as_py() is False:
            raise ValueError("the names are not sorted, or one occurs twice")
        for column in ("digest", "crop"):
            if len(self) and pc.min(pc.binary_length(self._columns[column])).as_py() < _KEY_BYTES:
                raise ValueError(f"a hash of the column '{column}' is cut")

    @classmethod
    def empty(cls) -> "ImageColumns":
        """Columns without images."""
        return cls(_SCHEMA.empty_table())
