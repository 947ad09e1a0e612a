"""Paired bootstrap: what the difference of two runs would be on other queries of the same kind."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from spn4cir.scores import Recall, Recipe

SAMPLES = 10_000
_INTERVAL = (2.5, 97.5)

# Ranks of a run's queries by split and column, from 1; the queries of both runs in the same order.
Ranks = Mapping[tuple[str, str], Int[np.ndarray, " queries"]]


def bootstrap_intervals(
    a: Ranks, b: Ranks, recipe: Recipe, seed: int, samples: int = SAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of b's scores minus a's, in percentage points.

    Queries are drawn with replacement within each split; a query brings its ranks in both runs, and every score is
    made anew of the drawn recalls, so that averages are resampled as wholes.

    Args:
        a: ranks of the one run.
        b: ranks of the other.
        recipe: how scores are made of recalls.
        seed: of the draws; equal seeds give equal intervals.
        samples: how many sets of queries to draw.
    """
    recalls = sorted({recall for parts in recipe.values() for recall in parts})
    generator = np.random.default_rng(seed)
    drawn = np.hstack(
        [
            resampled_means(_changes(a, b, [recall for recall in recalls if recall.split == split]), samples, generator)
            for split in dict.fromkeys(recall.split for recall in recalls)
        ]
    )
    weights = np.array([[parts.get(recall, 0.0) for recall in recalls] for parts in recipe.values()])
    # Rounded, so that an end at 0 is 0 and not what sums of weights leave of it.
    low, high = np.percentile(100.0 * drawn @ weights.T, _INTERVAL, axis=0).round(9) + 0.0
    return {score: (float(low[i]), float(high[i])) for i, score in enumerate(recipe)}


def _changes(a: Ranks, b: Ranks, recalls: Sequence[Recall]) -> Int[np.ndarray, "queries recalls"]:
    """Per query and recall: 1 where b alone finds the target, -1 where a alone does, else 0."""
    found = [[(run[r.split, r.column] <= r.k).astype(np.int64) for r in recalls] for run in (a, b)]
    return np.stack(found[1], axis=1) - np.stack(found[0], axis=1)


def resampled_means(
    values: Int[np.ndarray, "queries columns"], samples: int, generator: np.random.Generator
) -> Float[np.ndarray, "samples columns"]:
    """Column means of so many samples of the rows, each as large as they are, drawn with replacement.

    Equal rows are drawn together, as a multinomial count: the same distribution, at a cost that depends on how many
    different rows there are, and not on how many queries.
    """
    rows, counts = np.unique(values, axis=0, return_counts=True)
    drawn = generator.multinomial(len(values), counts / len(values), size=samples)
    means: Float[np.ndarray, "samples columns"] = drawn @ rows / len(values)
    return means
