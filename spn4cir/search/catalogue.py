"""The pictures of an index by name, and which of them share a vector or are one picture; free of torch."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

Key = TypeVar("Key")

_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "path": pa.string(),
        "size": pa.int64(),
        "modified": pa.int64(),
        "digest": pa.binary(),
        "crop": pa.binary(),
        "vector": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """A picture of the index.

    Attributes:
        path: where it lies, absolute.
        size: of its file, in bytes.
        modified: when its file was, in nanoseconds.
        digest: of its pixels: equal pictures have equal ones, whatever their file's format.
        crop: of what the network sees of it: those with equal ones share a vector.
        vector: the id of its targets.
    """

    path: str
    size: int
    modified: int
    digest: bytes
    crop: bytes
    vector: int


class Catalogue:
    """Entries by name. Reading it is safe while another thread changes it."""

    def __init__(self, entries: Iterable[tuple[str, IndexedImage]] = ()) -> None:
        self._entries: dict[str, IndexedImage] = {}
        self._sharing: defaultdict[int, set[str]] = defaultdict(set)
        self._equal: defaultdict[bytes, set[str]] = defaultdict(set)
        self._vectors: dict[bytes, int] = {}
        self._next = 0
        for name, entry in entries:
            self._put(name, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def __getitem__(self, name: str) -> IndexedImage:
        return self._entries[name]

    def get(self, name: str) -> IndexedImage | None:
        """The entry of a name, or None."""
        return self._entries.get(name)

    @property
    def vectors(self) -> Mapping[bytes, int]:
        """The id of the vector of each crop."""
        return self._vectors

    def new_vectors(self, count: int) -> range:
        """Ids that no vector had."""
        self._next += count
        return range(self._next - count, self._next)

    def sharing(self, vector: int) -> Collection[str]:
        """The names whose pictures have that vector."""
        return self._sharing.get(vector, ())

    def equal(self, digest: bytes) -> Collection[str]:
        """The names whose pictures have these pixels."""
        return self._equal.get(digest, ())

    def update(self, entries: Mapping[str, IndexedImage], removed: Iterable[str]) -> list[int]:
        """Puts entries in, in the place of those of the same names, and takes names out.

        Returns the ids of vectors that no picture has any more.
        """
        taken = [self._take(name) for name in (*entries, *removed) if name in self._entries]
        for name, entry in entries.items():
            self._put(name, entry)
        orphans = {entry.vector: entry.crop for entry in taken if entry.vector not in self._sharing}
        for crop in orphans.values():
            self._vectors.pop(crop, None)
        return list(orphans)

    def _put(self, name: str, entry: IndexedImage) -> None:
        self._entries[name] = entry
        self._sharing[entry.vector].add(name)
        self._equal[entry.digest].add(name)
        self._vectors[entry.crop] = entry.vector
        self._next = max(self._next, entry.vector + 1)

    def _take(self, name: str) -> IndexedImage:
        entry = self._entries.pop(name)
        _leave(self._sharing, entry.vector, name)
        _leave(self._equal, entry.digest, name)
        return entry

    def write(self, path: Path) -> None:
        """Writes a parquet file, sorted by name."""
        rows = [{"name": name, **_columns(self._entries[name])} for name in sorted(self._entries)]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)

    @classmethod
    def read(cls, path: Path) -> "Catalogue":
        """What `write` wrote. Raises ArrowException as pyarrow does, KeyError for other columns."""
        columns = pq.read_table(path).to_pydict()
        names = columns.pop("name")
        entries = (
            IndexedImage(*values) for values in zip(*(columns[field] for field in IndexedImage.__slots__), strict=True)
        )
        return cls(zip(names, entries, strict=True))


def _leave(groups: dict[Key, set[str]], key: Key, name: str) -> None:
    """Takes a name out of its group, and the group with the last of its names."""
    groups[key].remove(name)
    if not groups[key]:
        del groups[key]


def _columns(entry: IndexedImage) -> dict[str, object]:
    return {field: getattr(entry, field) for field in IndexedImage.__slots__}
