"""How a layout's flat scores are made: each is a weighted sum of recalls, which a table of queries carries with it."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from spn4cir.datasets.protocol import Layout

# Where a table of queries keeps its recipe, and the column of ranks that a recall counts.
RECIPE_KEY = b"scores"
_COLUMNS = {"recall_at": "rank", "recall_subset_at": "subset_rank"}


class Recall(NamedTuple):
    """A recall of one split.

    Attributes:
        split: its queries.
        column: where their ranks stand: `rank` or `subset_rank`.
        k: the last rank that counts as found.
    """

    split: str
    column: str
    k: int


Recipe = dict[str, dict[Recall, float]]


def score_recipe(layout: Layout, splits: Sequence[str]) -> Recipe:
    """The weight of each recall in each score: what the layout makes of that recall alone."""
    names = [f"recall_at{k}" for k in layout.recall_ks] + [f"recall_subset_at{k}" for k in layout.subset_ks]
    recipe: Recipe = {}
    for split in splits:
        for name in names:
            alone = {s: {n: float((s, n) == (split, name)) for n in names} for s in splits}
            for score, weight in layout.summarise(alone).items():
                if weight:
                    recipe.setdefault(score, {})[_recall(split, name)] = weight
    order = layout.summarise({split: dict.fromkeys(names, 0.0) for split in splits})
    return {score: recipe[score] for score in order}


def _recall(split: str, name: str) -> Recall:
    stem, k = name.rsplit("at", 1)
    return Recall(split, _COLUMNS[f"{stem}at"], int(k))


def write_recipe(recipe: Recipe) -> bytes:
    """The recipe as text."""
    return json.dumps({score: [[*r, w] for r, w in parts.items()] for score, parts in recipe.items()}).encode()


def read_recipe(text: bytes) -> Recipe:
    """The recipe that `write_recipe` wrote."""
    return {score: {Recall(*recall): w for *recall, w in parts} for score, parts in json.loads(text).items()}
