"""Filtered triplets: which texts of generated triplets stage 2 uses, and the folder that records it.

The folder contains `counts.json` and, unless the filter is off, `texts.parquet` with one row for each text.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.config.positives import Filter
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.errors import InputError, first_line
from spn4cir.files import atomic_folder
from spn4cir.json_files import read_json, write_json
from spn4cir.types import Triplet

WRONG, SHORTCUT = "wrong", "shortcut"
_COUNTS, _TEXTS = "counts.json", "texts.parquet"
# Rows of the table that are Python objects at a time.
_AT_ONCE = 10_000


class FilteredText(NamedTuple):
    """One text of a generated triplet: a row of the table.

    Attributes:
        triplet: position of the triplet among the generated triplets.
        reference: name of the reference.
        target: name of the target.
        number: position of the text among the triplet's texts.
        text: the text.
        rank: rank of the target for the reference and the text; 1 is the best.
        text_rank: rank of the target for the text without the reference; 1 is the best.
        kept: whether stage 2 uses the text.
        reason: `wrong` or `shortcut` for a text that is removed; None for a text that is kept.
    """

    triplet: int
    reference: str
    target: str
    number: int
    text: str
    rank: int
    text_rank: int
    kept: bool
    reason: str | None


_SCHEMA = pa.schema(
    {
        "triplet": pa.int64(),
        "reference": pa.string(),
        "target": pa.string(),
        "number": pa.int64(),
        "text": pa.string(),
        "rank": pa.int64(),
        "text_rank": pa.int64(),
        "kept": pa.bool_(),
        "reason": pa.string(),
    }
)


@dataclass(frozen=True)
class FilteredTriplets:
    """The content of a filter's folder.

    Attributes:
        counts: the settings, and numbers of triplets and texts; see `count`.
        table: a row for each text of the generated triplets, in their order, with the fields of `FilteredText`.
    """

    counts: Mapping[str, int | None]
    table: pa.Table

    def texts(self) -> Iterator[FilteredText]:
        """Yields every text of the generated triplets, in their order."""
        for batch in self.table.to_batches(max_chunksize=_AT_ONCE):
            yield from map(FilteredText, *(column.to_pylist() for column in batch.columns))

    def removed(self, reason: str) -> list[tuple[FilteredText, ...]]:
        """Returns the texts of each triplet that is removed for a reason, in order."""
        return [texts for texts in _by_triplet(self.texts()) if _triplet_reason(texts) == reason]


def judge_texts(
    triplets: Sequence[Triplet], ranks: Iterable[tuple[int, int]], settings: Filter
) -> tuple[FilteredText, ...]:
    """Decides for each text whether stage 2 uses it.

    A text is wrong if the rank of the target exceeds `target_within`. Any other text is a shortcut if the rank of the
    target by the text alone is at most `text_within`.

    Args:
        triplets: generated triplets.
        ranks: ranks of the target of each text, from 1: for the reference and the text, and for the text alone.
        settings: the conditions.
    """
    texts = [(number, each, *named) for number, each in enumerate(triplets) for named in enumerate(each.captions)]
    judged = []
    for (triplet, each, number, text), (rank, text_rank) in zip(texts, ranks, strict=True):
        reason = _reason(rank, text_rank, settings)
        names = (each.reference_name, str(each.target_name))
        judged.append(FilteredText(triplet, *names, number, text, rank, text_rank, reason is None, reason))
    return tuple(judged)


def _reason(rank: int, text_rank: int, settings: Filter) -> str | None:
    if settings.target_within is not None and rank > settings.target_within:
        return WRONG
    if settings.text_within is not None and text_rank <= settings.text_within:
        return SHORTCUT
    return None


def _by_triplet(texts: Iterable[FilteredText]) -> Iterator[tuple[FilteredText, ...]]:
    return (tuple(own) for _, own in groupby(texts, key=lambda text: text.triplet))


def _triplet_reason(texts: Sequence[FilteredText]) -> str | None:
    """Returns why a triplet is removed: `shortcut` if one of its texts is a shortcut; None if a text is kept."""
    if any(text.kept for text in texts):
        return None
    return SHORTCUT if any(text.reason == SHORTCUT for text in texts) else WRONG


def count(texts: Sequence[FilteredText]) -> dict[str, int]:
    """Returns the numbers of `triplets`, of those `kept`, `wrong` and `shortcut`, of `texts` and of `kept_texts`.

    A triplet is kept if one of its texts is kept. A removed triplet is a shortcut if one of its texts is a shortcut,
    and wrong otherwise.
    """
    reasons = [_triplet_reason(own) for own in _by_triplet(texts)]
    found = {name: reasons.count(reason) for name, reason in (("kept", None), (WRONG, WRONG), (SHORTCUT, SHORTCUT))}
    return {"triplets": len(reasons), **found, "texts": len(texts), "kept_texts": sum(text.kept for text in texts)}


def write_filter(folder: Path, settings: Filter, texts: Sequence[FilteredText] = ()) -> None:
    """Writes the folder of a filter, whole or not at all.

    Args:
        folder: the folder.
        settings: the conditions.
        texts: the texts of the generated triplets; without any, the folder contains only the conditions.
    """
    with atomic_folder(folder) as place:
        counts = count(texts) if texts else {}
        write_json(place / _COUNTS, settings.model_dump() | counts, indent=2)
        if texts:
            columns = zip(_SCHEMA, zip(*texts, strict=True), strict=True)
            table = {field.name: pa.array(values, field.type) for field, values in columns}
            pq.write_table(pa.table(table, schema=_SCHEMA), place / _TEXTS)


def read_filter(folder: Path) -> FilteredTriplets | None:
    """Reads the folder of a filter; None if it filtered nothing. Raises InputError if a file is absent or damaged."""
    counts: Any = read_json(folder / _COUNTS)
    if not isinstance(counts, dict) or not counts.keys() >= Filter.model_fields.keys():
        raise InputError(f"{folder / _COUNTS}: is not a file of the filter's counts; run the filter stage again")
    if "triplets" not in counts:
        return None
    path = folder / _TEXTS
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise InputError(
            f"{path}: is not a table of filtered triplets ({reason}); run the filter stage again"
        ) from None
    if not table.schema.equals(_SCHEMA):
        reason = f"columns {', '.join(table.schema.names)}"
        raise InputError(f"{path}: is not a table of filtered triplets ({reason}); run the filter stage again")
    return FilteredTriplets(counts, table)


def filter_generated(triplets: Sequence[Triplet], folder: Path) -> Sequence[Triplet]:
    """Removes the generated triplets, and the texts of others, that a filter removed; keeps all annotated triplets.

    Args:
        triplets: training triplets; the generated ones among them are those that were filtered, or there are none.
        folder: the folder of the filter; if it filtered nothing, the triplets are returned unchanged.

    Raises:
        InputError: the filter was computed from other triplets, or its folder cannot be read.
    """
    filtered = read_filter(folder) if any(triplet.generated for triplet in triplets) else None
    return triplets if filtered is None else PackedTriplets(_used(triplets, filtered, folder))


def _used(triplets: Sequence[Triplet], filtered: FilteredTriplets, folder: Path) -> Iterator[Triplet]:
    """Yields the annotated triplets, then the generated ones that are kept, with the kept texts."""
    yield from (triplet for triplet in triplets if not triplet.generated)
    generated = (triplet for triplet in triplets if triplet.generated)
    for triplet, texts in zip_longest(generated, _by_triplet(filtered.texts())):
        if triplet is None or texts is None or not _are_of(texts, triplet):
            raise InputError(f"{folder}: was computed from other generated triplets; run the filter stage again")
        if captions := tuple(text.text for text in texts if text.kept):
            yield replace(triplet, captions=captions)


def _are_of(texts: Sequence[FilteredText], triplet: Triplet) -> bool:
    own = [(triplet.reference_name, triplet.target_name, *text) for text in enumerate(triplet.captions)]
    return own == [(text.reference, text.target, text.number, text.text) for text in texts]
