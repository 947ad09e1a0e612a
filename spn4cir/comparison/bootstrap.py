"""Paired bootstrap: what the difference of two runs would be on other queries of the same kind."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from spn4cir.evaluation.score_recipe import Part, Ranks, Recipe, part_values

SAMPLES = 10_000
_INTERVAL = (2.5, 97.5)


def bootstrap_intervals(
    a: Ranks, b: Ranks, recipe: Recipe, seed: int, samples: int = SAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of b's scores minus a's, in percentage points.

    Queries are drawn with replacement within each split; a query brings its ranks in both runs, and every score is
    made anew of what was drawn, so that averages are resampled as wholes.

    Args:
        a: ranks of the one run.
        b: ranks of the other, its queries in the same order.
        recipe: how scores are made of parts.
        seed: of the draws; equal seeds give equal intervals.
        samples: how many sets of queries to draw.
    """
    parts = sorted({part for weighed in recipe.values() for part in weighed})
    generator = np.random.default_rng(seed)
    drawn = np.hstack(
        [
            resampled_means(_changes(a, b, [part for part in parts if part.split == split]), samples, generator)
            for split in dict.fromkeys(part.split for part in parts)
        ]
    )
    weights = np.array([[weighed.get(part, 0.0) for part in parts] for weighed in recipe.values()])
    # Rounded, so that an end at 0 is 0 and not what sums of weights leave of it.
    low, high = np.percentile(100.0 * drawn @ weights.T, _INTERVAL, axis=0).round(9) + 0.0
    return {score: (float(low[i]), float(high[i])) for i, score in enumerate(recipe)}


def _changes(a: Ranks, b: Ranks, parts: Sequence[Part]) -> Float[np.ndarray, "queries parts"]:
    """Per query and part, b's value less a's: of a recall, 1 where b alone finds the target, -1 where a alone does."""
    return np.stack([part_values(b, part) - part_values(a, part) for part in parts], axis=1)


def resampled_means(
    values: Float[np.ndarray, "queries columns"], samples: int, generator: np.random.Generator
) -> Float[np.ndarray, "samples columns"]:
    """Column means of so many samples of the rows, each as large as they are, drawn with replacement.

    Equal rows are drawn together, as a multinomial count: the same distribution, at a cost that depends on how many
    different rows there are, and not on how many queries.
    """
    rows, counts = np.unique(values, axis=0, return_counts=True)
    drawn = generator.multinomial(len(values), counts / len(values), size=samples)
    means: Float[np.ndarray, "samples columns"] = drawn @ rows / len(values)
    return means
