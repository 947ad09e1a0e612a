"""The number of queries that a difference needs."""

from pathlib import Path

import pytest

from spn4cir.evaluation.sample_size import FEWEST, queries_wanted, too_few_entry, too_few_queries

PAGE = Path(__file__).parents[2] / "docs" / "scores.md"


def test_it_is_the_closed_form() -> None:
    """(1.959964 sqrt(0.2) + 0.841621 sqrt(0.2 - 0.0009))^2 / 0.0009 = 1741.9; a fourth of the difference: 16 times."""
    assert queries_wanted(3, 20) == 1742
    assert 15.9 < queries_wanted(0.75, 20) / queries_wanted(3, 20) < 16.1
    assert queries_wanted(3, 10) < queries_wanted(3, 20)


@pytest.mark.parametrize(("difference", "changed"), [(0, 20), (-3, 20), (3, 2), (3, 101)])
def test_impossible_shares_are_refused(difference: float, changed: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < difference <= changed <= 100"):
        queries_wanted(difference, changed)


def test_the_arithmetic_of_the_page_is_that_of_the_function() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"c = 0.2, n is {queries_wanted(3, 20)}; if they differ on 10 %, n is {queries_wanted(3, 10)}" in page


def test_few_queries_are_named_and_enough_are_not() -> None:
    assert too_few_queries(FEWEST) is None
    assert too_few_entry(FEWEST) == {}
    said = too_few_entry(13)["too_few_queries"]
    assert said.startswith("13 queries are too few for a conclusion (fewer than 50)")
    assert "about 1,742 are needed" in said
