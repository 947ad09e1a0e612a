"""Tables as on the Hugging Face hub: parquet or arrow files with a reference image, a text and a target image per row.

Images are encoded bytes in the rows, or names that a second table or the folder resolves. Files are read in place
(`spn4cir.images.table_cells`). The bytes of each image are hashed when the data set is opened, to find equal images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from math import isnan, nan
from pathlib import Path
from typing import Any, ClassVar

from spn4cir.datasets.annotated_rows import AnnotatedRows
from spn4cir.datasets.rows import Row, rows_of
from spn4cir.datasets.splits import SPLITS, most_exact, split_of_path, states_splits
from spn4cir.datasets.table_files import (
    Embedded,
    TableFile,
    TableImages,
    identities,
    identity,
    name_images,
    query_numbers,
    read_images,
)
from spn4cir.errors import InputError
from spn4cir.images.table_cells import CELL_SUFFIXES
from spn4cir.types import Gallery, Triplet

# Default names of the columns: first those of the rows, then of the images, then of the queries' targets.
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
_TABLES = ("files", "images", "targets", "split", "columns")
_OPTIONAL = ("split", "group", "category", "query")
_PLAIN = ("text", *_OPTIONAL)
_WORDS = ("split", "category")


@dataclass(frozen=True)
class Table(AnnotatedRows):
    """Adapter of a folder of parquet or arrow files.

    The split of a row is read from the column `split`, else from the name of its file or a folder above it
    (`train-00000-of-00001`, `validation/0.parquet`), else from the name of the file with its query's targets.
    `spn4cir.datasets.splits.assign_splits` assigns a split to the other rows.

    Attributes:
        table: settings of the layout. `files`, `images` and `targets` are patterns, relative to the root, for the
            files of rows, of named images and of the queries' targets. `split` is the split of all rows. `columns`
            contains the names of columns that differ from `COLUMNS`. Without `files`, all files that neither of the
            other patterns matches are read. Without `images`, images are in the rows or below the root. Without
            `targets`, the column `target` names the target.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    layout: ClassVar[str] = "table"
    # Every such file of the folder is read unless `files` names some.
    every_file: ClassVar[tuple[str, ...]] = CELL_SUFFIXES
    _captions_rule: ClassVar[str] = "the text as written; of several, joined by ' and '"
    _absent: ClassVar[str] = "is neither an image of the tables nor a file of the folder"
    _to_state: ClassVar[str] = (
        "names of files or a column of splits override this, or --table split=val for all rows (in params.yaml "
        "table.split)"
    )

    @property
    def _gallery_rule(self) -> str:
        """The rule that says which images a gallery contains: all named images, if a table names them."""
        return "all named images" if self.table.get("images") else "the images that the rows of the split name"

    @cached_property
    def _columns(self) -> dict[str, str]:
        given = dict(self.table.get("columns") or {})
        if unknown := [*(self.table.keys() - set(_TABLES)), *(given.keys() - COLUMNS.keys())]:
            raise InputError(
                f"{self.root}: layout table has no setting '{min(unknown)}'; choose from {', '.join(_TABLES[:4])}, "
                f"and the columns {', '.join(COLUMNS)}"
            )
        if (split := self.table.get("split")) is not None and (split not in SPLITS or "split" in given):
            column = f" and of a column '{given['split']}'" if "split" in given else ""
            raise InputError(
                f"{self.root}: all rows are of split {split!r}{column}; give one of {', '.join(SPLITS)}, or a column"
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
        """Finds the files of a pattern. Raises InputError if no file matches."""
        pattern = self.table.get(which)
        if pattern is None:
            return []
        try:
            found = sorted(path for path in self.root.glob(pattern) if path.suffix in CELL_SUFFIXES)
        except (ValueError, NotImplementedError, IndexError):  # `a**b`, an absolute path, `.`
            found = []
        if not found:
            raise InputError(
                f"{self.root}: no {' or '.join(CELL_SUFFIXES)} file matches {which} '{pattern}'; write it as a path "
                "from the folder, with * for any part"
            )
        return found

    @cached_property
    def _files(self) -> list[Path]:
        """The files that contain the rows."""
        if self.table.get("files") is not None:
            return self._matching("files")
        others = {*self._matching("images"), *self._matching("targets")}
        every = (path for suffix in CELL_SUFFIXES for path in self.root.rglob(f"*{suffix}"))
        found = sorted(path for path in every if path not in others and not path.name.startswith("."))
        if not found:
            raise InputError(f"{self.root}: contains no {' or '.join(CELL_SUFFIXES)} file of rows; name another folder")
        return found

    def _open(self, path: Path, *needed: str) -> TableFile:
        return TableFile.open(path, self._columns, needed)

    @cached_property
    def _found(self) -> tuple[TableImages, list[tuple[str, dict[str, Any]]]]:
        """The images by name, and the records, each with its place for messages."""
        own = ("reference",) if self.table.get("targets") else ("reference", "target")
        named = [key for key in _OPTIONAL if key in (self.table.get("columns") or {})]
        images = [self._open(path, "image_name", "image") for path in self._matching("images")]
        rows = [self._open(path, *own, "text", *named) for path in self._files]
        ids = [name for table in images for name in identities(table, "image_name")]
        stored = [cells["image"] for table in images for cells in read_images(table, ("image",))]
        read = [read_images(table, own) for table in rows]
        inside = [cell for cells in chain(*read) for cell in cells.values()]
        named_images = name_images(self.root, list(zip(ids, stored, strict=True)), inside)
        records = [self._records(table, cells, named_images) for table, cells in zip(rows, read, strict=True)]
        return named_images, list(chain(*records))

    def _records(
        self, table: TableFile, cells: list[dict[str, Embedded | str | None]], images: TableImages
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the records of a table, with the names of images instead of the images."""
        stated = {key: table.words(key) if key in _WORDS else table.values(key) for key in _PLAIN if table.has(key)}
        if "split" in stated and (self.table.get("split") or not states_splits(stated["split"])):
            del stated["split"]
        named = {} if "split" in stated else {"named": self._named_splits(table.path)}
        for number, own in enumerate(cells):
            record = {key: values[number] for key, values in stated.items()}
            record |= {key: images.name(cell) for key, cell in own.items()}
            yield f"{table.path}: row {number}", record | named

    def _named_splits(self, path: Path) -> set[str]:
        """Returns the split of all rows, or the split that the names of a file and of the folders above it state."""
        return {self.table.get("split") or split_of_path(path.relative_to(self.root), path)} - {""}

    @property
    def _all_scored(self) -> bool:
        """True with a table of targets: benchmarks publish their queries in this form."""
        return self.table.get("targets") is not None

    @property
    def _every(self) -> Gallery:
        return self._found[0].gallery

    def _candidates(self, triplets: Sequence[Triplet]) -> Gallery:
        """Returns all named images or, without a table of images, the images that the queries name."""
        if self.table.get("images"):
            return self._found[0].named
        return self._every.restrict(
            frozenset(n for t in triplets for n in (t.reference_name, *t.target_names, *t.subset_names))
        )

    def _read(self) -> Sequence[Row]:
        """Reads the rows, in the order of their files."""
        records = self._found[1] if self.table.get("targets") is None else self._with_targets()
        if not records:
            raise InputError(f"{self._place()}: the tables have no rows; name other files")
        numbers = query_numbers([record.get("query") for _, record in records])
        return rows_of(
            (place, record | {"query": number, "category": _noun(record)} | _named_split(record, place))
            for (place, record), number in zip(records, numbers, strict=True)
        )

    def _with_targets(self) -> list[tuple[str, dict[str, Any]]]:
        """Adds the targets of each record's query, from the table of targets, with the highest score first."""
        (found, splits), records = self._answers(), []
        for place, record in self._found[1]:
            query = identity(record.get("query"))
            answers = sorted(found.get(query, []), key=lambda answer: answer[0])
            if not answers:
                raise InputError(
                    f"{place}: query {record.get('query')!r} has no target in {self.table['targets']}; set "
                    "columns.query to the column of the queries' ids, or remove the row"
                )
            first, *others = dict.fromkeys(name for _, name in answers)
            more = {"named": record["named"] | splits[query]} if "named" in record else {}
            records.append((place, record | {"target": first, "others": tuple(others)} | more))
        return records

    def _answers(self) -> tuple[dict[str, list[tuple[float, str]]], dict[str, set[str]]]:
        """Returns each query's targets with their negated scores, and the splits that the names of its files state."""
        found: dict[str, list[tuple[float, str]]] = {}
        splits: dict[str, set[str]] = {}
        for path in self._matching("targets"):
            table = self._open(path, "target_query", "target_image")
            queries, names = identities(table, "target_query"), identities(table, "target_image")
            named = self._named_splits(path)
            scores = table.values("target_score") if table.has("target_score") else [1] * len(queries)
            for row, (query, name, score) in enumerate(zip(queries, names, scores, strict=True)):
                if (relevance := _number(score, f"{path}: row {row}")) > 0:
                    found.setdefault(query, []).append((-relevance, name))
                    splits.setdefault(query, set()).update(named)
        return found, splits

    def _place(self) -> Path:
        return self.root

    def image_path(self, name: str) -> Path:
        """Returns the path of the image's cell; the path of another name is relative to the folder."""
        return self._found[0].paths.get(name, self.root / name)


def _number(score: Any, place: str) -> float:
    """Converts a score, which some tables store as text. Raises InputError if it is not a number."""
    try:
        number = float(score)
    except (TypeError, ValueError):
        number = nan
    if isnan(number):
        raise InputError(f"{place}: score is {score!r}, expected a number; write it, or remove the row")
    return number


def _named_split(record: dict[str, Any], place: str) -> dict[str, str]:
    """Returns the split that the names of a row's files state; train only if no name states another split.

    Raises InputError if they state two splits besides train.
    """
    named = record.get("named", set())
    split, *others = sorted(most_exact(named - {"train"} or named)) or [""]
    if others:
        raise InputError(
            f"{place}: the names of its files state {split} and {others[0]}; rename one, or give the split of all rows "
            "by --table split=val (in params.yaml table.split)"
        )
    return {"split": split} if split else {}


def _noun(record: dict[str, Any]) -> str:
    """Returns the category of a record; empty for a number, which cannot be used in a prompt."""
    category = record.get("category")
    return category if isinstance(category, str) else ""
