"""The queries of two runs side by side: ranks, best candidates, and the measures by which one run answers better."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from spn4cir.comparison.runs import Run
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import Part, Recipe, part_values

SHOWN = 5
_LABELS = {"rank": "R@{}", "subset_rank": "R_subset@{}", "target_ranks": "mAP@{}"}
_QUERY = ["split", "query", "reference", "text", "target"]
_ANSWER = ("rank", "top", "target", "target_ranks")


class Answer(NamedTuple):
    """The answer of a run to a query.

    Attributes:
        rank: rank of the target, from 1.
        top: names of the best candidates, best first; at most 5.
        targets: positions in `top` of the images that answer the query.
    """

    rank: int
    top: tuple[str, ...]
    targets: frozenset[int]


class QueryPair(NamedTuple):
    """A query and the answers of two runs.

    Attributes:
        split: name of its split: FashionIQ's category, GeneCIS' task.
        query: its number within the split.
        reference: name of the reference image.
        text: the modification text.
        target: name of the target image.
        a: answer of the first run.
        b: answer of the second run.
        won: measures, as in `R@10`, by which only b finds the target, or b is more precise.
        lost: measures by which only a finds the target, or a is more precise.
    """

    split: str
    query: int
    reference: str
    text: str
    target: str
    a: Answer
    b: Answer
    won: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def places(self) -> int:
        """The number of places by which b ranks the target higher than a; negative where b ranks it lower."""
        return self.a.rank - self.b.rank

    @property
    def change(self) -> tuple[bool, int]:
        """Sorts by change: queries that are won or lost first, then those whose target moves by the most places."""
        return not (self.won or self.lost), -abs(self.places)


def measures(recipe: Recipe) -> dict[str, tuple[str, int]]:
    """The measures that the scores are made from, by their labels: column of the ranks, and k."""
    return {_LABELS[part.column].format(part.k): (part.column, part.k) for parts in recipe.values() for part in parts}


def pair_queries(a: Run, b: Run) -> list[QueryPair]:
    """The queries of two runs over the same queries, in the order of their tables.

    Raises InputError for a table without texts or best candidates.
    """
    first, second = (_answers(run) for run in (a, b))
    gains = {label: _gains(a, b, *measure) for label, measure in measures(a.recipe).items()}
    return [
        QueryPair(
            **row,
            a=first[place],
            b=second[place],
            won=tuple(label for label, gain in gains.items() if gain[place] > 0),
            lost=tuple(label for label, gain in gains.items() if gain[place] < 0),
        )
        for place, row in enumerate(a.table.select(_QUERY).to_pylist())
    ]


def _answers(run: Run) -> list[Answer]:
    lacking = sorted({"text", "top"} - set(run.table.column_names))
    if lacking:
        raise InputError(f"{run.label}: its table of queries has no column '{lacking[0]}'; run validate again")
    rows = run.table.select([name for name in _ANSWER if name in run.table.column_names]).to_pylist()
    return [Answer(row["rank"], tuple(row["top"][:SHOWN]), _framed(row)) for row in rows]


def _framed(row: dict[str, Any]) -> frozenset[int]:
    """The positions of the targets in the best candidates; of several targets, the table contains only the ranks."""
    if row.get("target_ranks"):
        return frozenset(rank - 1 for rank in row["target_ranks"] if rank <= SHOWN)
    return frozenset(place for place, name in enumerate(row["top"][:SHOWN]) if name == row["target"])


def _gains(a: Run, b: Run, column: str, k: int) -> Int[np.ndarray, " queries"]:
    """1 for a query that b answers better by a measure, -1 if a does, otherwise 0; in the order of the table."""
    split = np.array(a.table["split"].to_pylist())
    gains = np.zeros(len(split), dtype=np.int64)
    for name in dict.fromkeys(split.tolist()):
        first, second = (part_values(run.ranks, Part(name, column, k)) for run in (a, b))
        gains[split == name] = np.sign(second - first)
    return gains
