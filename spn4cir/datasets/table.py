"""Tables as the hub holds them: parquet or arrow files with a reference picture, a text and a target picture a row.

Pictures are encoded bytes in the rows, or names that a second table or the folder resolves. Files are read in place
(`spn4cir.cells`); to tell equal pictures by their bytes, each of them is hashed when the data set is opened.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from math import isnan, nan
from pathlib import Path
from typing import Any, ClassVar

from spn4cir.datasets.annotated import AnnotatedRows
from spn4cir.datasets.embedded import Embedded, Pictures, TableFile, name_pictures, read_pictures
from spn4cir.datasets.identities import identities, identity, query_numbers
from spn4cir.datasets.tables import Row, rows_of
from spn4cir.errors import InputError
from spn4cir.members import CELL_SUFFIXES
from spn4cir.types import Gallery, Triplet

# What the columns are called where the settings do not say: of the rows, of the images, of the queries' targets.
COLUMNS = {
    "reference": "reference",
    "target": "target",
    "text": "text",
    "split": "split",
    "group": "group",
    "category": "category",
    "query": "query",
    "image_name": "id",
    "image": "image",
    "target_query": "query-id",
    "target_image": "corpus-id",
    "target_score": "score",
}
_TABLES = ("files", "images", "targets", "columns")
_OPTIONAL = ("split", "group", "category", "query")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"} | {
    "test": "test"
}
_SPLIT_NAME = re.compile(rf"({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Table(AnnotatedRows):
    """Adapter of a folder of parquet or arrow files.

    A split is what the column `split` says, else what a file or its folder is called by (`train-00000-of-00001`,
    `validation/0.parquet`). Where nothing is for validation, a share of the training references is held out.

    Attributes:
        table: `files`, `images` and `targets`, the files of rows, of named images and of the queries' targets, as
            patterns of paths from the root; and `columns`, what they are called where it is not as `COLUMNS` says.
            `files` not given: all that neither of the others matches. `images` not given: pictures lie in the rows or
            below the root. `targets` not given: the column `target` tells.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    layout: ClassVar[str] = "table"
    caption_join: ClassVar[str] = "the text as written; of several, joined by ' and '"
    _absent: ClassVar[str] = "is no picture of the tables, and no file of the folder"

    @property
    def gallery_rule(self) -> str:
        """Named images where there is a table of them."""
        return "all named images" if self.table.get("images") else "the pictures that the rows of the split name"

    @cached_property
    def _columns(self) -> dict[str, str]:
        given = dict(self.table.get("columns") or {})
        if unknown := [*(self.table.keys() - set(_TABLES)), *(given.keys() - COLUMNS.keys())]:
            raise InputError(
                f"{self.root}: layout table has no setting '{min(unknown)}'; it has {', '.join(_TABLES[:3])}, and the "
                f"columns {', '.join(COLUMNS)}"
            )
        columns = {**COLUMNS, **given}
        own = ("reference", "text") if self.table.get("targets") else ("reference", "target", "text")
        for first, second in combinations(own, 2):
            if columns[first] == columns[second]:
                raise InputError(
                    f"{self.root}: {first} and {second} are both the column '{columns[first]}'; give each its own by "
                    f"columns.{first} and columns.{second}"
                )
        return columns

    def _matching(self, which: str) -> list[Path]:
        """The files of a pattern. Raises InputError for one that matches none."""
        pattern = self.table.get(which)
        if pattern is None:
            return []
        try:
            found = sorted(path for path in self.root.glob(pattern) if path.suffix in CELL_SUFFIXES)
        except (ValueError, NotImplementedError, IndexError):  # `a**b`, an absolute path, `.`
            found = []
        if not found:
            raise InputError(
                f"{self.root}: no {' or '.join(CELL_SUFFIXES)} file matches {which} '{pattern}'; it is a path from the "
                "folder, with * for any part"
            )
        return found

    @cached_property
    def _files(self) -> list[Path]:
        """The files of rows."""
        if self.table.get("files") is not None:
            return self._matching("files")
        others = {*self._matching("images"), *self._matching("targets")}
        every = (path for suffix in CELL_SUFFIXES for path in self.root.rglob(f"*{suffix}"))
        found = sorted(path for path in every if path not in others and not path.name.startswith("."))
        if not found:
            raise InputError(f"{self.root}: holds no {' or '.join(CELL_SUFFIXES)} file of rows; name another folder")
        return found

    def _open(self, path: Path, *needed: str) -> TableFile:
        return TableFile.open(path, self._columns, needed)

    @cached_property
    def _found(self) -> tuple[Pictures, list[tuple[str, dict[str, Any]]]]:
        """The pictures by name, and the records with their places."""
        own = ("reference",) if self.table.get("targets") else ("reference", "target")
        named = [key for key in _OPTIONAL if key in (self.table.get("columns") or {})]
        images = [self._open(path, "image_name", "image") for path in self._matching("images")]
        rows = [self._open(path, *own, "text", *named) for path in self._files]
        ids = [name for table in images for name in identities(table, "image_name")]
        stored = [cells["image"] for table in images for cells in read_pictures(table, ("image",))]
        read = [read_pictures(table, own) for table in rows]
        inside = [cell for cells in chain(*read) for cell in cells.values()]
        pictures = name_pictures(self.root, list(zip(ids, stored, strict=True)), inside)
        records = [self._records(table, cells, pictures) for table, cells in zip(rows, read, strict=True)]
        return pictures, list(chain(*records))

    def _records(
        self, table: TableFile, cells: list[dict[str, Embedded | str | None]], pictures: Pictures
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """A table's rows, with the names of their pictures in the place of these."""
        told = {key: table.values(key) for key in ("text", *_OPTIONAL) if table.has(key)}
        split = self._split_of(table.path)
        for number, own in enumerate(cells):
            record = {key: values[number] for key, values in told.items()}
            record |= {key: pictures.name(cell) for key, cell in own.items()}
            if "split" in told:
                record["split"] = _SPLITS.get(str(record["split"]).lower(), record["split"])
            elif split:
                record["split"] = split
            yield f"{table.path}: row {number}", record

    def _split_of(self, path: Path) -> str:
        """The split that a file, or a folder above it, is called by; empty for none."""
        parts = path.relative_to(self.root).parts
        found = (_SPLIT_NAME.match(part) for part in reversed(parts))
        return next((_SPLITS[match[1].lower()] for match in found if match), "")

    @property
    def _every(self) -> Gallery:
        return self._found[0].gallery

    def _candidates(self, triplets: Sequence[Triplet]) -> Gallery:
        """All named images, or without such a table the pictures that the queries name."""
        if self.table.get("images"):
            return self._found[0].named
        return self._every.restrict(
            frozenset(n for t in triplets for n in (t.reference_name, *t.target_names, *t.subset_names))
        )

    def _read(self) -> Sequence[Row]:
        """The rows; where none is for validation, those of training do not say what they are for."""
        records = self._found[1] if self.table.get("targets") is None else self._with_targets()
        if not records:
            raise InputError(f"{self._place()}: the tables hold no row; name other files")
        splits = {record.get("split") for _, record in records}
        if "val" not in splits:
            records = [(place, _undecided(record)) for place, record in records]
        numbers = query_numbers([record.get("query") for _, record in records])
        return rows_of(
            (place, record | {"query": number, "category": _noun(record)})
            for (place, record), number in zip(records, numbers, strict=True)
        )

    def _with_targets(self) -> list[tuple[str, dict[str, Any]]]:
        """The records with the images that the table of targets gives their query, the best first."""
        found, records = self._answers(), []
        for place, record in self._found[1]:
            answers = sorted(found.get(identity(record.get("query")), []), key=lambda answer: answer[0])
            if not answers:
                raise InputError(
                    f"{place}: query {record.get('query')!r} has no target in {self.table['targets']}; set "
                    "columns.query to the column of the queries' ids, or remove the row"
                )
            first, *others = dict.fromkeys(name for _, name in answers)
            records.append((place, record | {"target": first, "others": tuple(others)}))
        return records

    def _answers(self) -> dict[str, list[tuple[float, str]]]:
        """What the table of targets says of each query: images that answer it, each with its score turned round."""
        found: dict[str, list[tuple[float, str]]] = {}
        for path in self._matching("targets"):
            table = self._open(path, "target_query", "target_image")
            queries, names = identities(table, "target_query"), identities(table, "target_image")
            scores = table.values("target_score") if table.has("target_score") else [1] * len(queries)
            for row, (query, name, score) in enumerate(zip(queries, names, scores, strict=True)):
                if (relevance := _number(score, f"{path}: row {row}")) > 0:
                    found.setdefault(query, []).append((-relevance, name))
        return found

    def _place(self) -> Path:
        return self.root

    def image_path(self, name: str) -> Path:
        """The cell that holds the picture, or a path from the folder."""
        return self._found[0].paths.get(name, self.root / name)


def _number(score: Any, place: str) -> float:
    """A score, which some tables hold as text. Raises InputError for what is no number."""
    try:
        number = float(score)
    except (TypeError, ValueError):
        number = nan
    if isnan(number):
        raise InputError(f"{place}: score is {score!r}, expected a number; write it, or remove the row")
    return number


def _undecided(record: dict[str, Any]) -> dict[str, Any]:
    if record.get("split") != "train":
        return record
    return {key: value for key, value in record.items() if key != "split"}


def _noun(record: dict[str, Any]) -> str:
    """The category; a number, which is no word for a prompt, is none."""
    category = record.get("category")
    return category if isinstance(category, str) else ""
