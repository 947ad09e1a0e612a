"""The paired bootstrap: closed forms, a naive loop, and the coverage of its intervals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spn4cir.comparison.bootstrap import bootstrap_intervals, resampled_means
from spn4cir.datasets.cirr import Cirr
from spn4cir.datasets.fashioniq import FashionIQ
from spn4cir.datasets.protocol import Layout
from spn4cir.evaluation.metrics import map_at_k
from spn4cir.evaluation.score_recipe import Part, part_values, read_recipe, score_recipe, write_recipe

CATEGORIES = ("dress", "shirt", "toptee")


class Several(Cirr):
    """A layout that is also scored by precision over all targets."""

    map_ks = (2, 10)


LAYOUTS = [
    (FashionIQ(Path(), "error"), CATEGORIES),
    (Cirr(Path(), "error"), ("val",)),
    (Several(Path(), "error"), ("val",)),
]


def ranks(seed: int, splits: tuple[str, ...] = CATEGORIES, queries: int = 30) -> dict[tuple[str, str], np.ndarray]:
    generator = np.random.default_rng(seed)
    found = {
        (split, column): generator.integers(1, highest, queries)
        for split in splits
        for column, highest in (("rank", 90), ("subset_rank", 6))
    }
    places = {(split, "target_ranks"): np.sort(generator.integers(1, 20, (queries, 3))) for split in splits}
    return found | places


def recalls(layout: Layout, found: dict[tuple[str, str], np.ndarray], split: str) -> dict[str, float]:
    whole = {f"recall_at{k}": 100 * float(np.mean(found[split, "rank"] <= k)) for k in layout.protocol.recall_ks}
    whole |= {
        f"recall_subset_at{k}": 100 * float(np.mean(found[split, "subset_rank"] <= k))
        for k in layout.protocol.subset_ks
    }
    return whole | {
        f"map_at{k}": map_at_k(torch.from_numpy(found[split, "target_ranks"]) - 1, k) for k in layout.protocol.map_ks
    }


@pytest.mark.parametrize(("layout", "splits"), LAYOUTS)
def test_a_recipe_makes_the_scores_of_the_layout(layout: Layout, splits: tuple[str, ...]) -> None:
    found = ranks(1, splits)
    recipe = score_recipe(layout, splits)
    expected = layout.summarise({split: recalls(layout, found, split) for split in splits})
    made = {
        score: 100 * sum(weight * np.mean(part_values(found, part)) for part, weight in parts.items())
        for score, parts in recipe.items()
    }
    assert list(made) == list(expected)
    assert made == pytest.approx(expected)
    assert read_recipe(write_recipe(recipe)) == recipe


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_run_beside_itself_differs_by_nothing(seed: int) -> None:
    found = ranks(seed)
    intervals = bootstrap_intervals(found, found, score_recipe(LAYOUTS[0][0], CATEGORIES), 0)
    assert set(intervals.values()) == {(0.0, 0.0)}


def test_a_seed_decides_the_intervals() -> None:
    a, b, recipe = ranks(1), ranks(2), score_recipe(LAYOUTS[0][0], CATEGORIES)
    assert bootstrap_intervals(a, b, recipe, 0) == bootstrap_intervals(a, b, recipe, 0)
    assert bootstrap_intervals(a, b, recipe, 0) != bootstrap_intervals(a, b, recipe, 1)


def test_swapped_runs_mirror_the_interval() -> None:
    """Results agree up to the draws: the patterns are in another order for equal random numbers."""
    a, b = (ranks(seed, queries=400) for seed in (1, 2))
    recipe = score_recipe(LAYOUTS[0][0], CATEGORIES)
    there, back = bootstrap_intervals(a, b, recipe, 0), bootstrap_intervals(b, a, recipe, 0)
    for score, (low, high) in there.items():
        assert (-back[score][1], -back[score][0]) == pytest.approx((low, high), abs=1.0)


@pytest.mark.parametrize(("layout", "splits"), LAYOUTS)
def test_the_interval_is_that_of_a_loop_over_resampled_queries(layout: Layout, splits: tuple[str, ...]) -> None:
    """Queries are drawn one by one and the layout computes every score; results agree up to the draws."""
    a, b = ranks(1, splits), ranks(2, splits)
    generator = np.random.default_rng(7)
    differences = []
    for _ in range(400):
        drawn = {split: generator.integers(0, 30, 30) for split in splits}
        scores = [
            layout.summarise(
                {split: recalls(layout, {k: v[drawn[k[0]]] for k, v in run.items()}, split) for split in splits}
            )
            for run in (a, b)
        ]
        differences.append([scores[1][score] - scores[0][score] for score in scores[0]])
    low, high = np.percentile(differences, (2.5, 97.5), axis=0)
    spread = np.std(differences, axis=0)
    for i, found in enumerate(bootstrap_intervals(a, b, score_recipe(layout, splits), 0).values()):
        assert found == pytest.approx((low[i], high[i]), abs=0.4 * spread[i] + 100 / 30)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_a_sample_is_as_large_as_the_rows_and_made_of_them(seed: int, queries: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(-1, 2, (queries, 3))
    means = resampled_means(values, 50, generator)
    assert means.shape == (50, 3)
    np.testing.assert_allclose(means * queries, np.rint(means * queries), atol=1e-9)
    assert (means >= values.min(axis=0) - 1e-9).all()
    assert (means <= values.max(axis=0) + 1e-9).all()


def test_the_spread_is_that_of_the_mean() -> None:
    """The resampled mean has the mean of the rows, and their variance over their number."""
    values = np.array([[1]] * 10 + [[0]] * 70 + [[-1]] * 20)
    means = resampled_means(values, 40_000, np.random.default_rng(0))
    assert float(means.mean()) == pytest.approx(-0.1, abs=0.002)
    assert float(means.var()) == pytest.approx(values.var() / 100, rel=0.05)


def test_intervals_cover_the_truth_as_often_as_they_promise() -> None:
    """Queries are won with probability 0.2 and lost with 0.1: about 95 of 100 intervals contain 10 points."""
    generator = np.random.default_rng(3)
    recipe = {"recall_at1": {Part("val", "rank", 1): 1.0}}
    held = 0
    for seed in range(150):
        drawn = generator.random(300)
        a = np.where(drawn < 0.1, 1, 2) + (drawn > 0.9)
        b = np.where((drawn >= 0.1) & (drawn < 0.3), 1, 2)
        low, high = bootstrap_intervals({("val", "rank"): a}, {("val", "rank"): b}, recipe, seed, 1000)["recall_at1"]
        held += low <= 10.0 <= high
    assert 0.90 <= held / 150 <= 0.985
