"""Which split a row belongs to: what its cell or its file's name states, and what becomes of rows that state none."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from math import isnan
from pathlib import PurePath
from typing import Any, NamedTuple

from spn4cir.errors import InputError

SPLITS = ("train", "val", "test")
# The keywords of the Hugging Face hub. To the hub `eval` is test; here it is val where nothing else is.
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
    """How rows came into a split that they do not state.

    Attributes:
        split: train or val.
        rows: how many came into it.
        of: of how many.
        rule: why these.
    """

    split: str
    rows: int
    of: int
    rule: str

    def __str__(self) -> str:
        """One sentence without its stop."""
        return f"{self.rows:,} of {self.of:,} rows are split {self.split}: {self.rule}"


def _keywords_in(text: str) -> set[str]:
    """The splits whose keywords are in a text, between separators; not eval where val or test is there too."""
    found = {_SPLIT_OF[word.lower()] for word in _KEYWORD.findall(text)}
    return found if "train" in found else most_exact(found)


def most_exact(splits: set[str]) -> set[str]:
    """Splits without eval, where there is another one: eval only says that rows are not for training."""
    return splits - {"eval"} or splits


def _the_one(text: str, place: object) -> str:
    """The split that a text states; empty for none. Raises InputError, with `place` in front, for several."""
    found = _keywords_in(text)
    if len(found) > 1:
        raise InputError(
            f"{place}: '{text}' states {' and '.join(sorted(found))}; rename it, or state the split of each row in a "
            "column (of layout table also that of all rows: --table split=val, in params.yaml table.split)"
        )
    return next(iter(found), "")


def split_named(word: str) -> str:
    """The split that one keyword names: train, val or test; empty for another word. Here eval names val."""
    split = _SPLIT_OF.get(word.lower(), "")
    return "val" if split == "eval" else split


def split_of_path(path: PurePath, place: object) -> str:
    """The split that a file's name states, else the folder nearest to it: train, val, test or eval; empty for none.

    Below a folder that states another split alone, train is that split: the library `datasets` calls files train
    where their author gave no split.

    Raises InputError, with `place` in front, for a name that decides and states several splits.
    """
    parts = [part for part in reversed(path.parts) if _keywords_in(part)]
    stated = _the_one(parts[0], place) if parts else ""
    if stated == "train":
        parts = [part for part in parts if "train" not in _keywords_in(part)]
        return _the_one(parts[0], place) if parts else stated
    return stated


def split_of_cell(value: Any, place: str) -> str:
    """The split that a cell states. Raises InputError for a cell that states none, or several."""
    split = _the_one(value, place) if isinstance(value, str) else ""
    if not split:
        raise InputError(
            f"{place}: split is {value!r}, expected one of {', '.join(SPLITS)}; write one, or rename the column "
            "where it means something else"
        )
    return split


def states_splits(cells: Iterable[Any]) -> bool:
    """Whether a column of splits has a cell that is not blank; one without any is as good as absent."""
    return not all(_is_blank(cell) for cell in cells)


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and isnan(cell)) or (isinstance(cell, str) and not cell.strip())


def lot(name: str) -> float:
    """A number in [0, 1) that the name decides, so that another image in the folder changes no other's lot."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def assign_splits(
    stated: Sequence[str], references: Sequence[str], held_out: float, all_scored: bool = False
) -> tuple[list[str], list[Assigned]]:
    """The split of each row, and how rows that do not state it came into theirs.

    Rows that state eval are test where others state val, else they are val. Rows that state nothing are val where all
    are scored; else they are train. Rows that state test are val where no row is val or train. Where no row is val
    after that, a share of the references of training rows is drawn, whose rows are val.

    Args:
        stated: what each row states: train, val, test or eval; empty for nothing.
        references: the name of each row's reference.
        held_out: the share that is drawn.
        all_scored: whether rows that state nothing are queries to score.
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
    first = min(drawn.values(), default=0.0)  # one query there must be
    held = [row for row in pool if drawn[row] < held_out or drawn[row] == first]
    assign("val", held, len(pool), _LOT.format(held_out))
    return [split or "train" for split in splits], assigned
