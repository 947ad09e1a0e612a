"""The table of the images of an index, with lookups by name, vector and digest; imports no torch."""

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


class ImageTable:
    """The images of an index by name. Reading it is safe while another thread updates it."""

    def __init__(self, images: Iterable[tuple[str, IndexedImage]] = ()) -> None:
        self._images: dict[str, IndexedImage] = {}
        self._names_by_vector: defaultdict[int, set[str]] = defaultdict(set)
        self._names_by_digest: defaultdict[bytes, set[str]] = defaultdict(set)
        self._vector_ids: dict[bytes, int] = {}
        self._next_id = 0
        for name, image in images:
            self._insert(name, image)

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, name: object) -> bool:
        return name in self._images

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._images))

    def __getitem__(self, name: str) -> IndexedImage:
        return self._images[name]

    def get(self, name: str) -> IndexedImage | None:
        """The image of a name, or None."""
        return self._images.get(name)

    @property
    def vector_ids(self) -> Mapping[bytes, int]:
        """The id of the vector of each crop."""
        return self._vector_ids

    def new_vector_ids(self, count: int) -> range:
        """Ids that no vector has had."""
        self._next_id += count
        return range(self._next_id - count, self._next_id)

    def with_vector(self, vector: int) -> Collection[str]:
        """The names of the images that share a vector."""
        return self._names_by_vector.get(vector, ())

    def with_digest(self, digest: bytes) -> Collection[str]:
        """The names of the images with these decoded pixels."""
        return self._names_by_digest.get(digest, ())

    def update(self, images: Mapping[str, IndexedImage], removed: Iterable[str]) -> list[int]:
        """Adds or replaces images by name, and removes names.

        Returns the ids of the vectors that no image uses any more.
        """
        taken = [self._remove(name) for name in (*images, *removed) if name in self._images]
        for name, image in images.items():
            self._insert(name, image)
        unused = {image.vector: image.crop for image in taken if image.vector not in self._names_by_vector}
        for crop in unused.values():
            self._vector_ids.pop(crop, None)
        return list(unused)

    def _insert(self, name: str, image: IndexedImage) -> None:
        self._images[name] = image
        self._names_by_vector[image.vector].add(name)
        self._names_by_digest[image.digest].add(name)
        self._vector_ids[image.crop] = image.vector
        self._next_id = max(self._next_id, image.vector + 1)

    def _remove(self, name: str) -> IndexedImage:
        image = self._images.pop(name)
        _discard(self._names_by_vector, image.vector, name)
        _discard(self._names_by_digest, image.digest, name)
        return image

    def write(self, path: Path) -> None:
        """Writes a parquet file, sorted by name."""
        rows = [{"name": name, **_columns(self._images[name])} for name in sorted(self._images)]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)

    @classmethod
    def read(cls, path: Path) -> "ImageTable":
        """Reads a file of `write`. Raises ArrowException for an unreadable file, KeyError for a missing column."""
        columns = pq.read_table(path).to_pydict()
        names = columns.pop("name")
        images = (
            IndexedImage(*values) for values in zip(*(columns[field] for field in IndexedImage.__slots__), strict=True)
        )
        return cls(zip(names, images, strict=True))


def _discard(groups: dict[Key, set[str]], key: Key, name: str) -> None:
    """Removes a name from its group, and the group if it is empty then."""
    groups[key].remove(name)
    if not groups[key]:
        del groups[key]


def _columns(image: IndexedImage) -> dict[str, object]:
    return {field: getattr(image, field) for field in IndexedImage.__slots__}
