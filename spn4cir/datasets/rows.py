"""Annotations as a table: CSV (UTF-8, comma, a header) or parquet, one row per triplet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.datasets.splits import split_of_cell, states_splits
from spn4cir.errors import InputError, first_line
from spn4cir.images.table_cells import check_lengths
from spn4cir.readable import check_file, check_text_file

NEEDED = ("reference", "target", "text")
OPTIONAL = ("split", "group")
_BETWEEN_MEMBERS = ";"
# Rows of a parquet file that are read at a time: 200 equal texts of 5 MB take 235 KB in a file, and 1 GB in memory.
# No metadata states how much: equal texts are stored once. Small batches are checked together, up to this many bytes.
_BATCH, _CHECKED_BYTES = 16, 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """An annotated triplet.

    Attributes:
        reference: name of the query image.
        target: name of the image to find.
        texts: modification texts, unchanged; they may be empty.
        split: train, val, test or eval as the table states; empty if it states none.
        group: images of a smaller gallery that the query is also ranked against (CIRR's subset); empty for none.
        category: noun for the images, used in the captioner's prompt; empty if the table states none.
        query: number of the query; None to use the row's position.
        others: further targets of the query.
    """

    reference: str
    target: str
    texts: tuple[str, ...]
    split: str
    group: tuple[str, ...]
    category: str = ""
    query: int | None = None
    others: tuple[str, ...] = ()


def read_table(path: Path) -> tuple[Row, ...]:
    """Reads the rows of a file, in file order.

    A column `split` without any value is ignored.

    A group is either a key that rows share, and contains the images that these rows name, or a list of image names:
    a list in parquet, joined by `;` in CSV.

    Raises:
        InputError: the file is absent, is not CSV or parquet, lacks one of the columns reference, target and text, or
            has a row that lacks a value; the message names the first such row.
    """
    records = list(_read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path))
    if not records:
        raise InputError(f"{path}: has no rows; annotate some triplets, or leave the file out")
    if not states_splits(record.get("split") for record in records):
        records = [{key: value for key, value in record.items() if key != "split"} for record in records]
    return rows_of((f"{path}: row {number}", record) for number, record in enumerate(records, start=1))


def rows_of(records: Iterable[tuple[str, dict[str, Any]]]) -> tuple[Row, ...]:
    """Converts records, each with its place for messages, to rows. Raises InputError for an invalid value."""
    rows = [_cells(record, place) for place, record in records]
    keyed: dict[str, dict[str, None]] = {}
    for row in rows:
        if isinstance(row["group"], str):
            keyed.setdefault(row["group"], {}).update(dict.fromkeys((row["reference"], row["target"])))
    return tuple(Row(**row | {"group": _members(row["group"], keyed)}) for row in rows)


def _members(group: str | list[str], keyed: dict[str, dict[str, None]]) -> tuple[str, ...]:
    if isinstance(group, str):
        return tuple(keyed[group]) if group else ()
    return tuple(dict.fromkeys(group))


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    check_text_file(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(reader.fieldnames or (), path)
            for record in reader:
                if None in record or None in record.values():
                    raise InputError(
                        f"{path}: line {reader.line_num} does not have as many cells as the header; put a text "
                        'that contains a comma in quotes ("...")'
                    )
                yield record
    except FileNotFoundError:
        raise _absent(path) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not a CSV file in UTF-8 ({error}); save it as one, or as parquet") from None


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    check_file(path)
    try:
        with pq.ParquetFile(path) as opened:
            names = opened.schema_arrow.names
            _check_columns(names, path)
            columns, number = [name for name in (*NEEDED, *OPTIONAL) if name in names], 0
            for rows in _together(opened.iter_batches(_BATCH, columns=columns, use_threads=False)):
                rows.validate(full=True)
                for name in columns:
                    check_lengths(rows.column(name), name, partial(_place, path, number))
                yield from rows.to_pylist()
                number += rows.num_rows
    except FileNotFoundError:
        raise _absent(path) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: is not a parquet file ({first_line(error)}); write it again") from None


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yields batches as tables of about `_CHECKED_BYTES`; a batch that has more ends its table."""
    kept: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        kept.append(batch)
        size += batch.get_total_buffer_size()  # reads no offsets, which may be invalid
        if size >= _CHECKED_BYTES:
            yield pa.Table.from_batches(kept)
            kept, size = [], 0
    if kept:
        yield pa.Table.from_batches(kept)


def _place(path: Path, first: int, row: int) -> str:
    """Returns the place of a row, which is counted from 1, for messages."""
    return f"{path}: row {first + row + 1}"


def _absent(path: Path) -> InputError:
    return InputError(f"{path}: no such file; give the CSV or parquet file of the annotations")


def _check_columns(found: Sequence[str], path: Path) -> None:
    if twice := [name for name in (*NEEDED, *OPTIONAL) if list(found).count(name) > 1]:
        raise InputError(f"{path}: has the column '{twice[0]}' twice; give each column a name of its own")
    if lacking := [name for name in NEEDED if name not in found]:
        raise InputError(
            f"{path}: lacks the column {lacking[0]} (columns there: {', '.join(map(str, found)) or 'none'}); "
            f"name the columns {', '.join(NEEDED)}, and optionally {', '.join(OPTIONAL)}"
        )


def _cells(record: dict[str, Any], place: str) -> dict[str, Any]:
    """Returns the values of a row. Raises InputError for an invalid value."""
    texts = record["text"] if isinstance(record["text"], list) and record["text"] else [record["text"]]
    for name, value in [*((name, record[name]) for name in ("reference", "target")), *(("text", t) for t in texts)]:
        if not isinstance(value, str) or (name != "text" and not value.strip()):
            raise InputError(f"{place}: {name} is {shortened(value)}; write it, or remove the row")
    split = split_of_cell(record["split"], place) if "split" in record else ""
    group = record.get("group") or ""
    if isinstance(group, str) and _BETWEEN_MEMBERS in group:
        group = [name.strip() for name in group.split(_BETWEEN_MEMBERS) if name.strip()]
    group = group if isinstance(group, list) else str(group)
    more = {name: record[name] for name in ("reference", "target", "category", "query", "others") if name in record}
    return more | {"texts": tuple(texts), "split": split, "group": group}
