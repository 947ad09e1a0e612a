"""The bootstrap over seeds and queries: closed forms, a naive loop, and the coverage of its intervals."""

import numpy as np
import pytest

from spn4cir.comparison.bootstrap import bootstrap_intervals, seed_intervals
from spn4cir.evaluation.score_recipe import Part, Ranks, Recipe

RECIPE: Recipe = {"recall_at1": {Part("val", "rank", 1): 1.0}}
# A mean over two splits and two ranks, as FashionIQ's.
MEAN: Recipe = {
    "mean": {Part("dress", "rank", 10): 0.25, Part("dress", "rank", 50): 0.25, Part("shirt", "rank", 10): 0.5},
    "dress": {Part("dress", "rank", 10): 1.0},
}


def runs(seed: int, seeds: int, queries: int = 40) -> list[Ranks]:
    generator = np.random.default_rng(seed)
    return [{(split, "rank"): generator.integers(1, 90, queries) for split in ("dress", "shirt")} for _ in range(seeds)]


def found(hits: np.ndarray) -> Ranks:
    return {("val", "rank"): np.where(hits, 1, 2)}


def test_one_seed_gives_the_interval_over_queries() -> None:
    a, b = runs(1, 1, 400), runs(2, 1, 400)
    over_queries = bootstrap_intervals(a[0], b[0], MEAN, 0)
    for score, ends in seed_intervals(a, b, MEAN, 0).items():
        assert ends == pytest.approx(over_queries[score], abs=0.4)


def test_equal_runs_differ_by_nothing() -> None:
    a = runs(1, 3)
    assert set(seed_intervals(a, a, MEAN, 0).values()) == {(0.0, 0.0)}


def test_without_noise_of_queries_the_interval_is_that_of_the_seeds() -> None:
    """Each seed wins all queries or none, so the interval is that of 3 of 5 seeds: between 20 and 100 of 100."""
    a = [found(np.zeros(50, bool))] * 5
    b = [found(np.full(50, won)) for won in (True, True, True, False, False)]
    assert seed_intervals(a, b, RECIPE, 0)["recall_at1"] == (20.0, 100.0)


def test_the_order_of_the_seeds_does_not_count() -> None:
    a, b = runs(1, 4, 400), runs(2, 4, 400)
    back = seed_intervals(a[::-1], b[::-1], MEAN, 0)
    for score, ends in seed_intervals(a, b, MEAN, 0).items():
        assert ends == pytest.approx(back[score], abs=0.4)


def test_the_interval_is_that_of_a_loop_over_resampled_seeds_and_queries() -> None:
    """Seeds and queries are drawn one by one; every drawn seed has the same drawn queries."""
    a, b = runs(1, 3), runs(2, 3)
    generator = np.random.default_rng(7)
    means = []
    for _ in range(2000):
        seeds = generator.integers(0, 3, 3)
        drawn = {split: generator.integers(0, 40, 40) for split in ("dress", "shirt")}
        sides = [
            np.mean(
                [
                    sum(
                        weight * np.mean(side[seed][part.split, part.column][drawn[part.split]] <= part.k)
                        for part, weight in MEAN["mean"].items()
                    )
                    for seed in seeds
                ]
            )
            for side in (a, b)
        ]
        means.append(100 * (sides[1] - sides[0]))
    expected = np.percentile(means, (2.5, 97.5))
    assert seed_intervals(a, b, MEAN, 0)["mean"] == pytest.approx(tuple(expected), abs=1.0)


def test_intervals_cover_the_truth_as_often_as_they_promise() -> None:
    """Seeds differ in how often they win and queries in how easily they are won; the gain is 10 points on average."""
    generator = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        of_seed = generator.normal(0.0, 0.02, (5, 1))
        of_query = generator.choice([-0.1, 0.1], (1, 300))
        won = generator.random((5, 300)) < 0.2 + of_seed + of_query
        lost = (generator.random((5, 300)) < 0.1 / 0.8) & ~won
        a, b = [found(row) for row in lost], [found(row) for row in won]
        truth = 100 * (0.2 - 0.8 * 0.1 / 0.8)
        low, high = seed_intervals(a, b, RECIPE, trial, 1000)["recall_at1"]
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.99
