"""Reads the files of layout `table`: their images, the names of these, and the ids of rows."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spn4cir.errors import InputError
from spn4cir.images.spelling import spelled
from spn4cir.images.table_cells import TableRows, cell_path, check_lengths, encoded, is_text, open_rows
from spn4cir.json_files import parse_json
from spn4cir.types import Gallery

_DIGITS = 32
# Any number of this many digits fits into 64 bits.
_ID_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Embedded:
    """A cell of a column of images.

    Attributes:
        path: path of the cell (`spn4cir.images.table_cells`).
        digest: digest of the cell's bytes; empty for a cell without bytes.
        label: path that the table stores beside the bytes; empty for none.
    """

    path: Path
    digest: str
    label: str


@dataclass(frozen=True)
class TableFile:
    """A file of rows; its columns are accessed by the keys of the layout.

    Attributes:
        path: the file.
        rows: content of the file.
        columns: column names by key; some may be absent from the file.
    """

    path: Path
    rows: TableRows
    columns: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, columns: Mapping[str, str], needed: Sequence[str]) -> "TableFile":
        """Opens a file. Raises InputError for a needed column that is absent, and for two columns of one name."""
        rows = open_rows(path)
        for key in needed:
            if columns[key] not in rows.schema.names:
                there = ", ".join(rows.schema.names) or "none"
                raise InputError(
                    f"{path}: lacks the column '{columns[key]}' (columns there: {there}); give its name by "
                    f"--table {key}=NAME (in params.yaml columns.{key} of the data set's table), or choose the files "
                    "by files, images and targets"
                )
        if twice := [name for name in columns.values() if rows.schema.names.count(name) > 1]:
            raise InputError(f"{path}: has the column '{twice[0]}' twice; give each column a name of its own")
        return cls(path, rows, columns)

    def has(self, key: str) -> bool:
        """Whether the file has the column of a key."""
        return self.columns[key] in self.rows.schema.names

    def values(self, key: str) -> list[Any]:
        """Returns all values of a column that contains no images. Raises InputError for a text that is too long."""
        name = self.columns[key]
        found: list[Any] = []
        for batch in self.rows.batches([name]):
            check_lengths(batch.column(0), name, lambda row: f"{self.path}: row {len(found) + row}")
            found.extend(batch.column(0).to_pylist())
        return found

    def words(self, key: str) -> list[Any]:
        """Returns all values of a column; numbers of a `ClassLabel` (library `datasets`) become their names."""
        names = dict(enumerate(self._class_names(self.columns[key])))
        return [names.get(value, value) if isinstance(value, int) else value for value in self.values(key)]

    def _class_names(self, column: str) -> list[str]:
        """Returns the names of the classes of a column, from the metadata of the library `datasets`; empty if none."""
        described = (self.rows.schema.metadata or {}).get(b"huggingface", b"{}")
        try:
            found = parse_json(described)["info"]["features"][column]["names"]
        except (ValueError, LookupError, TypeError):  # other metadata, or none
            return []
        return found if isinstance(found, list) else []


def read_images(table: TableFile, keys: Sequence[str]) -> list[dict[str, Embedded | str | None]]:
    """Returns the images of each row, by key: a cell, or a name in the table's spelling. Reads and hashes all bytes."""
    found: list[dict[str, Embedded | str | None]] = []
    for batch in table.rows.batches([table.columns[key] for key in keys]):
        columns = {key: batch.column(place) for place, key in enumerate(keys)}
        parts = {key: _cells(table, key, column, len(found)) for key, column in columns.items()}
        found.extend({key: cells[row] for key, cells in parts.items()} for row in range(batch.num_rows))
    return found


def _cells(table: TableFile, key: str, column: pa.Array, first: int) -> Sequence[Embedded | str | None]:
    name = table.columns[key]
    if pa.types.is_dictionary(column.type):  # as pandas writes a category
        column = column.dictionary_decode()
    if is_text(column.type):
        names: list[str | None] = column.to_pylist()
        return names
    contents = encoded(column, f"{table.path}: column {name}")
    labels = pc.struct_field(column, "path").to_pylist() if _has_path(column.type) else [None] * len(column)
    return [
        Embedded(
            cell_path(table.path, first + row, name),
            hashlib.sha256(content).hexdigest()[:_DIGITS] if content else "",
            labels[row] or "",
        )
        for row, content in enumerate(scalar.as_py() for scalar in contents)
    ]


def _has_path(kind: pa.DataType) -> bool:
    """Whether a column of images also contains a text `path`."""
    paths = [part.type for part in kind if part.name == "path"] if pa.types.is_struct(kind) else []
    return len(paths) == 1 and is_text(paths[0])


@dataclass(frozen=True)
class TableImages:
    """The images of a data set.

    Attributes:
        root: the folder of the data set.
        paths: paths of the images that exist, by name.
        digests: names of embedded images, by the digest of their bytes.
        ids: names of the images in the table of images.
    """

    root: Path
    paths: Mapping[str, Path]
    digests: Mapping[str, str]
    ids: frozenset[str]

    def name(self, cell: Embedded | str | None) -> str | None:
        """Returns the name of a cell's image; the name of an absent image is the cell's label or path."""
        if not isinstance(cell, Embedded):
            return cell
        if cell.digest:
            return self.digests[cell.digest]
        return cell.label or cell.path.relative_to(self.root).as_posix()

    @cached_property
    def gallery(self) -> Gallery:
        """All images that exist."""
        return Gallery(tuple(self.paths), tuple(self.paths.values()))

    @cached_property
    def named(self) -> Gallery:
        """The images in the table of images."""
        return self.gallery.restrict(self.ids)


def name_images(
    root: Path, images: Sequence[tuple[str, Embedded | str | None]], cells: Iterable[Embedded | str | None]
) -> TableImages:
    """Names every image; equal images get one name.

    The name of an image in the table of images is its id. The name of another image is its label, if no two different
    images of the data set share a label; else the digest of its bytes.

    Args:
        root: the folder of the data set.
        images: ids and images of the table of images.
        cells: images of the rows.

    Raises:
        InputError: two different images have one id.
    """
    paths: dict[str, Path] = {}
    digests: dict[str, str] = {}
    content: dict[str, str] = {}
    for name, cell in images:
        if isinstance(cell, Embedded) and content.setdefault(name, cell.digest) != cell.digest:
            raise InputError(f"{cell.path}: another image also has the id '{name}'; give each image an id of its own")
        if (place := _place(root, cell)) is not None:
            paths.setdefault(name, place)
        if isinstance(cell, Embedded) and cell.digest:
            digests.setdefault(cell.digest, name)
    rows = list(cells)
    embedded = [cell for cell in rows if isinstance(cell, Embedded) and cell.digest and cell.digest not in digests]
    labelled = all(cell.label and content.setdefault(cell.label, cell.digest) == cell.digest for cell in embedded)
    for cell in embedded:
        name = digests.setdefault(cell.digest, cell.label if labelled else cell.digest)
        paths.setdefault(name, cell.path)
    for cell in rows:
        name = cell.label if isinstance(cell, Embedded) and not cell.digest else cell if isinstance(cell, str) else ""
        if name and name not in paths and (file := spelled(root, name)).is_file():
            paths[name] = file
    return TableImages(root, paths, digests, frozenset(name for name, _ in images if name in paths))


def _place(root: Path, cell: Embedded | str | None) -> Path | None:
    """Returns the path of a cell's image; None for an absent image."""
    if isinstance(cell, Embedded) and cell.digest:
        return cell.path
    name = cell.label if isinstance(cell, Embedded) else cell
    return place if name and (place := spelled(root, name)).is_file() else None


def identity(value: Any) -> str:
    """Returns an id as text, empty for none; 3.0 becomes `3`, because pandas converts integers with gaps to floats."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def identities(table: TableFile, key: str) -> list[str]:
    """Returns the ids of a column. Raises InputError, which names the row, for the first row without an id."""
    found = [identity(value) for value in table.values(key)]
    if "" in found:
        raise InputError(
            f"{table.path}: row {found.index('')}: the column '{table.columns[key]}' is empty; write the name, or "
            "remove the row"
        )
    return found


def query_numbers(ids: Sequence[Any]) -> list[int | None]:
    """Returns the ids of queries as numbers if all are distinct numbers of at most 18 digits, else None for each."""
    texts = [identity(value) for value in ids]
    whole = all(text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS for text in texts)
    numbers = [int(text) for text in texts] if whole else []
    return [*numbers] if len(set(numbers)) == len(texts) else [None] * len(texts)
