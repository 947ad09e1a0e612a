"""Paired bootstrap: intervals of the difference of two runs over other queries, or other queries and training seeds."""

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

    Queries are drawn with replacement within each split. A drawn query contributes its ranks in both runs, and every
    score is computed again from the drawn queries, so that averages are resampled as a whole.

    Args:
        a: ranks of the first run.
        b: ranks of the second run, with the queries in the same order.
        recipe: weights of the parts of each score.
        seed: seed of the draws; equal seeds give equal intervals.
        samples: number of resampled sets of queries.
    """
    parts = _parts(recipe)
    generator = np.random.default_rng(seed)
    drawn = np.hstack(
        [
            resampled_means(_changes(a, b, [part for part in parts if part.split == split]), samples, generator)
            for split in dict.fromkeys(part.split for part in parts)
        ]
    )
    return _intervals(drawn, recipe)


def seed_intervals(
    a: Sequence[Ranks], b: Sequence[Ranks], recipe: Recipe, seed: int, samples: int = SAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of b's mean scores minus a's over training seeds, in percentage points.

    Seeds and, within each split, queries are drawn with replacement, crossed: every drawn seed has the same drawn
    queries. The runs of a seed and a query are paired. The intervals are over other seeds and other queries of the same
    kind. Source: Owen, "The Pigeonhole Bootstrap", Annals of Applied Statistics 1(2), 2007.

    Args:
        a: ranks of a run for each training seed.
        b: ranks of a run for each training seed, with the seeds and the queries in the same order.
        recipe: weights of the parts of each score.
        seed: seed of the draws; equal seeds give equal intervals.
        samples: number of resampled sets.
    """
    parts = _parts(recipe)
    generator = np.random.default_rng(seed)
    drawn_seeds = generator.multinomial(len(a), np.full(len(a), 1 / len(a)), size=samples) / len(a)
    columns = []
    for split in dict.fromkeys(part.split for part in parts):
        chosen = [part for part in parts if part.split == split]
        changes = np.hstack([_changes(first, second, chosen) for first, second in zip(a, b, strict=True)])
        means = resampled_means(changes, samples, generator).reshape(samples, len(a), len(chosen))
        columns.append(np.einsum("ns,nsp->np", drawn_seeds, means))
    return _intervals(np.hstack(columns), recipe)


def _parts(recipe: Recipe) -> list[Part]:
    """The parts of all scores, those of a split together."""
    return sorted({part for weighed in recipe.values() for part in weighed})


def _intervals(drawn: Float[np.ndarray, "samples parts"], recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Intervals of the scores from resampled differences of the parts, in the order of `_parts`."""
    parts = _parts(recipe)
    weights = np.array([[weighed.get(part, 0.0) for part in parts] for weighed in recipe.values()])
    # Rounded, so that an end at 0 is exactly 0 in spite of rounding errors.
    low, high = np.percentile(100.0 * drawn @ weights.T, _INTERVAL, axis=0).round(9) + 0.0
    return {score: (float(low[i]), float(high[i])) for i, score in enumerate(recipe)}


def _changes(a: Ranks, b: Ranks, parts: Sequence[Part]) -> Float[np.ndarray, "queries parts"]:
    """Value of b minus value of a, by query and part; for a recall, 1 if only b finds the target, -1 if only a does."""
    return np.stack([part_values(b, part) - part_values(a, part) for part in parts], axis=1)


def resampled_means(
    values: Float[np.ndarray, "queries columns"], samples: int, generator: np.random.Generator
) -> Float[np.ndarray, "samples columns"]:
    """Column means of samples of the rows; each sample has as many rows as `values`, drawn with replacement.

    Equal rows are drawn together as a multinomial count: the distribution is unchanged, and the cost depends on the
    number of different rows instead of the number of queries.
    """
    rows, counts = np.unique(values, axis=0, return_counts=True)
    drawn = generator.multinomial(len(values), counts / len(values), size=samples)
    means: Float[np.ndarray, "samples columns"] = drawn @ rows / len(values)
    return means
