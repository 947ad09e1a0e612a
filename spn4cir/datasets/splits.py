"""Finds the split of annotation rows: as a cell or a file name states it, or assigned by a rule."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from math import isnan
from pathlib import PurePath
from typing import Any, NamedTuple

from spn4cir.errors import InputError

SPLITS = ("train", "val", "test")
# The keywords of the Hugging Face hub. The hub reads `eval` as test; here it is val if no row states val.
_KEYWORDS = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
    "eval": ("eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _KEYWORDS.items() for word in words}
# Between the separators of the hub; the longest keyword first.
_KEYWORD = re.compile(
    rf"(?<![^-._ 0-9/])(?:{'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})(?![^-._ 0-9/])", re.IGNORECASE
)

_EVAL = "they state eval, and no row states val"
_QUERIES = "no split is stated for them, and they are queries with a table of targets"
_TEST = "they state test, and no row states train or val"
_OTHERS = "no split is stated for them, and other rows are val"
_LOT = "held out by lot, a share of {:g} of the references by a hash of their names, as no row states val"


class Assigned(NamedTuple):
    """A split that was assigned to rows which do not state it, and the rule.

    Attributes:
        split: the assigned split, train or val.
        rows: number of rows that were assigned.
        of: number of rows that they were chosen from.
        rule: the rule that chose them, in words.
    """

    split: str
    rows: int
    of: int
    rule: str

    def __str__(self) -> str:
        """Returns a sentence without a full stop."""
        return f"{self.rows:,} of {self.of:,} rows are split {self.split}: {self.rule}"


def _keywords_in(text: str) -> set[str]:
    """Returns the splits that have a keyword, between separators, in a text; eval only if neither val nor test has."""
    found = {_SPLIT_OF[word.lower()] for word in _KEYWORD.findall(text)}
    return found if "train" in found else most_exact(found)


def most_exact(splits: set[str]) -> set[str]:
    """Removes eval from several splits: eval only means that rows are not for training."""
    return splits - {"eval"} or splits


def _the_one(text: str, place: object) -> str:
    """Returns the split that a text states; empty for none. Raises InputError, which begins with `place`, for two."""
    found = _keywords_in(text)
    if len(found) > 1:
        raise InputError(
            f"{place}: '{text}' states {' and '.join(sorted(found))}; rename it, or state the split of each row in a "
            "column (layout table: or of all rows by --table split=val, in params.yaml table.split)"
        )
    return next(iter(found), "")


def split_named(word: str) -> str:
    """Returns the split that a keyword names, with eval as val: train, val or test; empty for another word."""
    split = _SPLIT_OF.get(word.lower(), "")
    return "val" if split == "eval" else split


def split_of_path(path: PurePath, place: object) -> str:
    """Returns the split that the name of a file states, or else that of the nearest folder above it.

    The result is train, val, test or eval, or empty for none. If the nearest name states train, another split that a
    folder above states is used instead: the library `datasets` names files train if their author gave no split.

    Raises InputError, which begins with `place`, if the name that decides states several splits.
    """
    parts = [part for part in reversed(path.parts) if _keywords_in(part)]
    stated = _the_one(parts[0], place) if parts else ""
    if stated == "train":
        parts = [part for part in parts if "train" not in _keywords_in(part)]
        return _the_one(parts[0], place) if parts else stated
    return stated


def split_of_cell(value: Any, place: str) -> str:
    """Returns the split that a cell states. Raises InputError for a cell that states none, or several."""
    split = _the_one(value, place) if isinstance(value, str) else ""
    if not split:
        raise InputError(
            f"{place}: split is {value!r}, expected one of {', '.join(SPLITS)}; write one, or rename the column "
            "if it means something else"
        )
    return split


def states_splits(cells: Iterable[Any]) -> bool:
    """Whether a column of splits has a cell that is not blank; a column of blank cells counts as absent."""
    return not all(_is_blank(cell) for cell in cells)


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and isnan(cell)) or (isinstance(cell, str) and not cell.strip())


def lot(name: str) -> float:
    """Returns a number in [0, 1) that depends on the name alone, so that adding images changes no other's number."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def assign_splits(
    stated: Sequence[str], references: Sequence[str], held_out: float, all_scored: bool = False
) -> tuple[list[str], list[Assigned]]:
    """Assigns a split to each row.

    Rows that state eval are test if other rows state val, else val. Rows that state no split are val if `all_scored`,
    else train. Rows that state test are val if all rows are test. If no row is val after that, a share of the
    references of train rows is drawn, and the rows of these references are val.

    Args:
        stated: the split that each row states: train, val, test or eval; empty for none.
        references: the name of each row's reference.
        held_out: share of the references that is drawn.
        all_scored: whether rows that state no split are queries to score.

    Returns:
        The split of each row, and the assignments of rows that do not state it.
    """
    splits = ["test" if split == "eval" and "val" in stated else split for split in stated]
    assigned: list[Assigned] = []

    def assign(split: str, rows: Sequence[int], of: int, rule: str) -> None:
        for row in rows:
            splits[row] = split
        assigned.extend([Assigned(split, len(rows), of, rule)] if rows else [])

    def stating(*which: str) -> list[int]:
        return [row for row, split in enumerate(splits) if split in which]

    reasons = {"eval": _EVAL, **({"": _QUERIES} if all_scored else {})}
    assign("val", stating(*reasons), len(splits), " or ".join(reasons[own] for own in reasons if own in splits))
    if set(splits) == {"test"}:
        assign("val", stating("test"), len(splits), _TEST)
    if "val" in splits:
        assign("train", stating(""), len(splits), _OTHERS)
        return splits, assigned
    pool = stating("train", "")
    drawn = {row: lot(references[row]) for row in pool}
    first = min(drawn.values(), default=0.0)  # at least one query is needed
    held = [row for row in pool if drawn[row] < held_out or drawn[row] == first]
    assign("val", held, len(pool), _LOT.format(held_out))
    return [split or "train" for split in splits], assigned
