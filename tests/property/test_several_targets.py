"""Ranks of several targets and their precision, against a list sorted in plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spn4cir.evaluation.metrics import map_at_k
from spn4cir.evaluation.ranking import rank_gallery

sizes = st.integers(1, 12)
levels = st.sampled_from([1, 2, 4, 1000])
seeds = st.integers(0, 2**31 - 1)


def dot(queries: Tensor, targets: Tensor) -> Tensor:
    return queries @ targets.T


def draw(queries: int, gallery: int, levels: int, seed: int) -> tuple[Tensor, list[list[int]]]:
    """Scores, and one to all columns of each query as its targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (queries, gallery), generator=generator).float()
    counts = torch.randint(1, gallery + 1, (queries,), generator=generator).tolist()
    return scores, [torch.randperm(gallery, generator=generator)[:count].tolist() for count in counts]


def ranked(scores: Tensor, targets: list[list[int]], removed: Tensor | None = None) -> Tensor:
    width = max(map(len, targets))
    index = torch.tensor([row + [-1] * (width - len(row)) for row in targets])
    found = rank_gallery(dot, scores, torch.eye(scores.shape[1]), index[:, 0], removed, other_index=index[:, 1:])
    return found.target_ranks


def sorted_places(row: list[float], targets: list[int]) -> list[int]:
    """The positions of the targets in a list in which they follow all others that tie with them."""
    order = sorted(range(len(row)), key=lambda column: (-row[column], column in targets))
    return [place for place, column in enumerate(order) if column in targets]


def precision(places: list[int], k: int) -> float:
    """AP@k, computed position by position."""
    found, total = 0, 0.0
    for place in range(k):
        if place in places:
            found += 1
            total += found / (place + 1)
    return total / min(k, len(places))


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, levels, seeds, st.integers(1, 14))
def test_ranks_and_precision_are_those_of_a_sorted_list(
    queries: int, gallery: int, levels: int, seed: int, k: int
) -> None:
    scores, targets = draw(queries, gallery, levels, seed)
    found = ranked(scores, targets)
    expected = [sorted_places(row, own) for row, own in zip(scores.tolist(), targets, strict=True)]
    assert [[place for place in row if place >= 0] for row in found.tolist()] == expected
    assert all(row == sorted(row, key=lambda place: (place < 0, place)) for row in found.tolist())
    assert map_at_k(found, k) == pytest.approx(100 * sum(precision(row, k) for row in expected) / queries)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, levels, seeds)
def test_neither_the_order_of_targets_nor_of_the_gallery_counts(
    queries: int, gallery: int, levels: int, seed: int
) -> None:
    scores, targets = draw(queries, gallery, levels, seed)
    order = torch.randperm(gallery, generator=torch.Generator().manual_seed(seed))
    place = torch.argsort(order).tolist()
    moved = [[place[column] for column in reversed(row)] for row in targets]
    assert torch.equal(ranked(scores, targets), ranked(scores[:, order], moved))


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, levels, seeds)
def test_of_one_target_it_is_the_rank(queries: int, gallery: int, levels: int, seed: int) -> None:
    """A single target, with or without padding, has AP@k of one over its position."""
    scores, targets = draw(queries, gallery, levels, seed)
    first = torch.tensor([row[0] for row in targets])
    single = rank_gallery(dot, scores, torch.eye(gallery), first)
    padding = torch.full((queries, 2), -1)
    padded = rank_gallery(dot, scores, torch.eye(gallery), first, other_index=padding)
    assert torch.equal(single.target_ranks, single.rank[:, None])
    assert padded.target_ranks.tolist() == [[rank, -1, -1] for rank in single.rank.tolist()]
    assert map_at_k(padded.target_ranks, gallery) == pytest.approx(100 * float((1 / (single.rank + 1)).mean()))


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = draw(11, 9, 3, seed=1)
    whole = ranked(scores, targets)
    monkeypatch.setattr("spn4cir.evaluation.ranking._BLOCK_SCORES", 20)
    assert torch.equal(ranked(scores, targets), whole)


def test_closed_forms() -> None:
    """Cases: all targets first, one before two others, none within k, and k below the number of targets."""
    assert map_at_k(torch.tensor([[0, 1, 2]]), 5) == 100
    assert map_at_k(torch.tensor([[0, 1, 2]]), 2) == 100
    assert map_at_k(torch.tensor([[0, 9, -1]]), 5) == 50
    assert map_at_k(torch.tensor([[5, 6, 7]]), 5) == 0
    assert map_at_k(torch.tensor([[1, 3, -1], [0, -1, -1]]), 10) == pytest.approx(100 * ((1 / 2 + 2 / 4) / 2 + 1) / 2)


def test_a_removed_column_stands_behind_every_target() -> None:
    found = ranked(torch.tensor([[3.0, 2.0, 1.0]]), [[1, 2]], torch.tensor([0]))
    assert found.tolist() == [[0, 1]]


@pytest.mark.parametrize("ranks", [torch.zeros(0, 2, dtype=torch.long), torch.tensor([[0, 1], [-1, -1]])])
def test_queries_without_targets_have_no_precision(ranks: Tensor) -> None:
    with pytest.raises(ValueError, match="mAP needs k >= 1 and queries with targets"):
        map_at_k(ranks, 5)
