"""The table of the images of an index, with lookups by name, vector and digest; imports no torch."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from spn4cir.search.image_columns import ImageColumns, IndexedImage

Key = TypeVar("Key")
# With more images in memory than this, and than a tenth of the stored ones, all become columns.
_IN_MEMORY = 10_000


class ImageTable:
    """The images of an index by name. A change makes another table, so that other threads may read this one.

    Images that were read from a file, or added many at a time, are in columns, which need little memory; the others are
    Python objects, of about 1 KB each.
    """

    def __init__(self, images: Iterable[tuple[str, IndexedImage]] = (), columns: ImageColumns | None = None) -> None:
        self._columns = ImageColumns.empty() if columns is None else columns
        self._hidden: set[int] = set()  # rows of the columns that were removed or replaced
        self._images: dict[str, IndexedImage] = {}
        # Lists, as a set of one name takes 128 bytes more.
        self._names_by_vector: defaultdict[int, list[str]] = defaultdict(list)
        self._names_by_digest: defaultdict[bytes, list[str]] = defaultdict(list)
        self._vector_ids: dict[bytes, int] = {}
        self._next_id = self._columns.next_vector
        for name, image in images:
            self._insert(name, image)

    def __len__(self) -> int:
        return len(self._columns) - len(self._hidden) + len(self._images)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._images or self._row(name) is not None)

    def __iter__(self) -> Iterator[str]:
        hidden = set(self._hidden)
        stored = [name for row, name in enumerate(self._columns.names) if row not in hidden]
        return iter([*stored, *list(self._images)])

    def __getitem__(self, name: str) -> IndexedImage:
        if (image := self.get(name)) is None:
            raise KeyError(name)
        return image

    def get(self, name: str) -> IndexedImage | None:
        """The image of a name, or None."""
        if name in self._images:
            return self._images[name]
        return None if (row := self._row(name)) is None else self._columns.image(row)

    def _row(self, name: str) -> int | None:
        row = self._columns.row(name)
        return None if row in self._hidden else row

    def vector_of(self, crop: bytes) -> int | None:
        """The id of the vector of a crop, or None."""
        if crop in self._vector_ids:
            return self._vector_ids[crop]
        rows = self._visible("crop", crop)
        return self._columns.image(rows[0]).vector if rows else None

    def has_crop(self, crop: bytes) -> bool:
        """Whether a crop has a vector."""
        return self.vector_of(crop) is not None

    @property
    def next_vector(self) -> int:
        """The first of the next `new_vector_ids`."""
        return self._next_id

    def new_vector_ids(self, count: int) -> range:
        """Ids that no vector has had."""
        self._next_id += count
        return range(self._next_id - count, self._next_id)

    def with_vector(self, vector: int) -> Collection[str]:
        """The names of the images that share a vector."""
        return {*self._names_by_vector.get(vector, ()), *map(self._columns.name, self._visible("vector", vector))}

    def with_digest(self, digest: bytes) -> Collection[str]:
        """The names of the images with these decoded pixels."""
        return {*self._names_by_digest.get(digest, ()), *map(self._columns.name, self._visible("digest", digest))}

    def _visible(self, column: str, value: int | bytes) -> list[int]:
        return [row for row in self._columns.rows_with(column, value) if row not in self._hidden]

    def updated(self, images: ImageColumns, removed: Iterable[str]) -> tuple["ImageTable", list[int]]:
        """Returns a table with other images added or replaced, and with names removed; this one stays as it is.

        Returns the table, and the ids of the vectors that no image uses any more.
        """
        if len(self._images) + len(images) <= max(_IN_MEMORY, len(self._columns) // 10):
            copy = self._copy()
            return copy, copy._update(dict(images.items()), removed)
        kept, hidden, vectors = dict(self._images), set(self._hidden), dict[int, None]()
        for name in (*(images.names if len(self) else ()), *removed):
            if name in kept:
                vectors[kept.pop(name).vector] = None
            elif (row := self._row(name)) is not None:
                hidden.add(row)
                vectors[self._columns.image(row).vector] = None
        table = ImageTable(columns=self._columns.changed(hidden, kept, images))
        table._next_id = max(table._next_id, self._next_id)
        return table, [vector for vector in vectors if not table.with_vector(vector)]

    def _copy(self) -> "ImageTable":
        """A table with the same columns, which are never changed, and copies of what is in memory."""
        copy = ImageTable(columns=self._columns)
        copy._hidden, copy._images, copy._vector_ids = set(self._hidden), dict(self._images), dict(self._vector_ids)
        copy._names_by_vector.update((key, list(names)) for key, names in self._names_by_vector.items())
        copy._names_by_digest.update((key, list(names)) for key, names in self._names_by_digest.items())
        copy._next_id = self._next_id
        return copy

    def _update(self, images: Mapping[str, IndexedImage], removed: Iterable[str]) -> list[int]:
        taken = [image for name in (*images, *removed) if (image := self._remove(name)) is not None]
        for name, image in images.items():
            self._insert(name, image)
        unused = {image.vector: image.crop for image in taken if not self.with_vector(image.vector)}
        for crop in unused.values():
            self._vector_ids.pop(crop, None)
        return list(unused)

    def _insert(self, name: str, image: IndexedImage) -> None:
        self._images[name] = image
        self._names_by_vector[image.vector].append(name)
        self._names_by_digest[image.digest].append(name)
        self._vector_ids[image.crop] = image.vector
        self._next_id = max(self._next_id, image.vector + 1)

    def _remove(self, name: str) -> IndexedImage | None:
        """Removes a name; returns its image, or None if there is none."""
        if name not in self._images:
            if (row := self._row(name)) is None:
                return None
            self._hidden.add(row)
            return self._columns.image(row)
        image = self._images.pop(name)
        _discard(self._names_by_vector, image.vector, name)
        _discard(self._names_by_digest, image.digest, name)
        return image

    def write(self, path: Path) -> None:
        """Writes a parquet file, sorted by name."""
        unchanged = not self._hidden and not self._images
        columns = self._columns if unchanged else self._columns.changed(self._hidden, self._images)
        columns.write(path)

    @property
    def vector_count(self) -> int:
        """The number of vectors that the images of a table that was just read have."""
        return self._columns.vector_count

    @classmethod
    def read(cls, path: Path, least_id: int = 0) -> "ImageTable":
        """Reads a file of `write`.

        Args:
            path: the file.
            least_id: least id of a new vector; the ids of removed ones are not in the file.

        Raises:
            ArrowException, KeyError, ValueError: the file is not one of `write`.
        """
        table = cls(columns=ImageColumns.read(path))
        table._next_id = max(table._next_id, least_id)
        return table


def _discard(groups: dict[Key, list[str]], key: Key, name: str) -> None:
    """Removes a name from its group, and the group if it is empty then."""
    groups[key].remove(name)
    if not groups[key]:
        del groups[key]
