"""Score recipes: each flat score of a layout as a weighted sum of parts, stored in the table of queries."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, FiniteFloat, PositiveInt, TypeAdapter

from spn4cir.datasets.protocol import Benchmark

# The metadata key of a recipe in a table of queries, and the column of ranks that each kind of score reads.
RECIPE_KEY = b"scores"
_COLUMNS = {"recall_at": "rank", "recall_subset_at": "subset_rank", "map_at": "target_ranks"}


class Part(NamedTuple):
    """A recall or a mean average precision of one split.

    Attributes:
        split: name of the split.
        column: column of the ranks: `rank` or `subset_rank`; `target_ranks` for precision.
        k: the last rank that counts as found.
    """

    split: str
    column: str
    k: int


Recipe = dict[str, dict[Part, float]]
# The form in which a recipe is written.
_Column = Literal["rank", "subset_rank", "target_ranks"]
_WRITTEN = TypeAdapter(
    Annotated[
        dict[str, Annotated[list[tuple[str, _Column, PositiveInt, FiniteFloat]], Field(min_length=1)]],
        Field(min_length=1),
    ]
)
# Ranks of a run's queries by split and column, from 1; `target_ranks` has one row for each query, padded with 0.
Ranks = Mapping[tuple[str, str], Int[np.ndarray, "queries ..."]]


def part_values(ranks: Ranks, part: Part) -> Float[np.ndarray, " queries"]:
    """The contribution of each query to the mean of a part: 1 or 0 for a recall, or its average precision."""
    found = ranks[part.split, part.column]
    if part.column == "target_ranks":
        return average_precision(found, part.k)
    return (found <= part.k).astype(np.float64)


def score_recipe(layout: Benchmark, splits: Sequence[str]) -> Recipe:
    """The weight of each part in each score: the layout's score if that part alone is 1."""
    rules = layout.protocol
    kinds = {"recall_at": rules.recall_ks, "recall_subset_at": rules.subset_ks, "map_at": rules.map_ks}
    names = [f"{kind}{k}" for kind, ks in kinds.items() for k in ks]
    recipe: Recipe = {}
    for split in splits:
        for name in names:
            alone = {s: {n: float((s, n) == (split, name)) for n in names} for s in splits}
            for score, weight in layout.summarise(alone).items():
                if weight:
                    recipe.setdefault(score, {})[_part(split, name)] = weight
    order = layout.summarise({split: dict.fromkeys(names, 0.0) for split in splits})
    return {score: recipe[score] for score in order}


def _part(split: str, name: str) -> Part:
    stem, k = name.rsplit("at", 1)
    return Part(split, _COLUMNS[f"{stem}at"], int(k))


def write_recipe(recipe: Recipe) -> bytes:
    """Serialises a recipe as JSON."""
    return json.dumps({score: [[*part, w] for part, w in parts.items()] for score, parts in recipe.items()}).encode()


def read_recipe(text: bytes) -> Recipe:
    """Parses a recipe that `write_recipe` wrote. Raises ValueError for another text."""
    parsed = _WRITTEN.validate_json(text)
    return {
        score: {Part(split, column, k): weight for split, column, k, weight in parts} for score, parts in parsed.items()
    }


def average_precision(places: Int[np.ndarray, "queries targets"], k: int) -> Float[np.ndarray, " queries"]:
    """AP@k of each query: the sum of the precision at the ranks of the targets in the top k, over min(k, targets).

    Args:
        places: ranks of all targets of a query, ascending, 1 for the best; padded with 0. Each query has a target.
        k: the last rank that counts.

    Source: CIRCO's evaluation, https://github.com/miccunifi/CIRCO.
    """
    hits = (places > 0) & (places <= k)
    precision = np.arange(1, places.shape[1] + 1) / np.maximum(places, 1)
    best: Float[np.ndarray, " queries"] = (hits * precision).sum(axis=1) / np.minimum((places > 0).sum(axis=1), k)
    return best
