"""Ranks and top lists against an oracle that sorts every row in plain Python."""

import pytest
import torch
from torch import Tensor

import spn4cir.evaluation.ranking
from spn4cir.evaluation.metrics import recall_of_ranks
from spn4cir.evaluation.ranking import Ranking, rank_gallery, target_rank, top_candidates


def given_scores(scores: list[list[float]] | Tensor) -> tuple[Tensor, Tensor]:
    """Queries and targets whose dot products are exactly this matrix."""
    matrix = torch.as_tensor(scores)
    return matrix, torch.eye(matrix.shape[1])


def dot(queries: Tensor, targets: Tensor) -> Tensor:
    return queries @ targets.T


def oracle(
    scores: Tensor,
    target: list[int],
    removed: list[int] | None = None,
    subset: list[list[int]] | None = None,
    top: int = 50,
) -> tuple[list[int], list[int], list[list[int]], list[list[int]]]:
    """Computes rank, subset rank, top columns and subset order one candidate at a time."""
    ranks, subset_ranks, tops, orders = [], [], [], []
    for query, row in enumerate(scores.tolist()):
        if removed is not None and removed[query] >= 0:
            row[removed[query]] = float("-inf")
        own = target[query]
        ranks.append(sum(row[c] >= row[own] for c in range(len(row)) if c != own) if own >= 0 else -1)
        tops.append(sorted(range(len(row)), key=lambda c: (-row[c], c))[:top])
        members = subset[query] if subset is not None else []
        value = {p: row[c] if c >= 0 else float("-inf") for p, c in enumerate(members)}
        orders.append(sorted(value, key=lambda p: (-value[p], p)))
        others = [c for c in members if c >= 0 and c != own]
        subset_ranks.append(sum(row[c] >= row[own] for c in others) if own >= 0 and own in members else -1)
    return ranks, subset_ranks, tops, orders


def assert_equals_oracle(
    ranking: Ranking, expected: tuple[list[int], list[int], list[list[int]], list[list[int]]]
) -> None:
    assert ranking.rank.tolist() == expected[0]
    assert ranking.subset_rank.tolist() == expected[1]
    assert ranking.top.tolist() == expected[2]
    assert ranking.subset_top.tolist() == expected[3]


def test_ranks_of_a_hand_made_matrix() -> None:
    """The score 0.5 is below 0.9 and ties with another 0.5; one column is removed and one target is absent."""
    queries, targets = given_scores([[0.5, 0.9, 0.5, 0.1], [0.2, 0.9, 0.3, 0.1], [0.4, 0.3, 0.2, 0.1]])
    ranking = rank_gallery(dot, queries, targets, torch.tensor([0, 0, -1]), torch.tensor([-1, 1, 0]))
    assert ranking.rank.tolist() == [2, 1, -1]
    assert ranking.top.tolist() == [[1, 0, 2, 3], [2, 0, 3, 1], [1, 2, 3, 0]]
    assert ranking.top_scores[1].tolist() == pytest.approx([0.3, 0.2, 0.1, -torch.inf])
    assert ranking.subset_rank.tolist() == [-1, -1, -1]


def test_subset_of_a_hand_made_matrix() -> None:
    """Columns outside the subset do not count, a tie inside does, and padding comes last."""
    queries, targets = given_scores([[0.5, 0.9, 0.5, 0.1, 0.7]] * 2)
    subset = torch.tensor([[3, 0, 2], [0, 4, -1]])
    ranking = rank_gallery(dot, queries, targets, torch.tensor([0, 0]), subset_index=subset)
    assert ranking.rank.tolist() == [3, 3]
    assert ranking.subset_rank.tolist() == [1, 1]
    assert ranking.subset_top.tolist() == [[1, 2, 0], [1, 0, 2]]


def test_candidates_of_ones_own() -> None:
    """Other columns do not count and are listed last; removed columns stay removed."""
    queries, targets = given_scores([[0.5, 0.9, 0.5, 0.1, 0.7]] * 2)
    subset = torch.tensor([[3, 0, 2], [0, 4, -1]])
    removed = torch.tensor([2, -1])
    ranking = rank_gallery(dot, queries, targets, torch.tensor([0, 0]), removed, subset, within_subsets=True)
    assert ranking.rank.tolist() == ranking.subset_rank.tolist() == [0, 1]
    assert [top[:2] for top in ranking.top.tolist()] == [[0, 3], [4, 0]]
    assert torch.isinf(ranking.top_scores[:, 2:]).all()


def test_negative_scores_rank_like_any_others() -> None:
    """Some libraries treat a score of 0 or less as no hit."""
    queries, targets = given_scores([[-0.5, -0.9, -0.7]])
    assert rank_gallery(dot, queries, targets, torch.tensor([2])).rank.tolist() == [1]


def test_a_target_that_was_removed_ranks_last() -> None:
    queries, targets = given_scores([[0.5, 0.9, 0.5]])
    assert rank_gallery(dot, queries, targets, torch.tensor([1]), torch.tensor([1])).rank.tolist() == [2]


def coarse(queries: int, gallery: int, levels: int, seed: int) -> Tensor:
    """Scores with few levels: many ties."""
    return torch.randint(levels, (queries, gallery), generator=torch.Generator().manual_seed(seed)) / levels


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("top", [1, 7, 39, 40, 60])
def test_equals_the_oracle(levels: int, top: int) -> None:
    """Compares with the oracle for ties at every place, removed columns, absent targets and padded subsets."""
    scores = coarse(30, 40, levels, seed=levels + top)
    generator = torch.Generator().manual_seed(top)
    target = torch.randint(-1, 40, (30,), generator=generator)
    removed = torch.randint(-1, 40, (30,), generator=generator)
    subset = torch.stack([torch.randperm(40, generator=generator)[:6] for _ in range(30)])
    subset[::2, 0] = target[::2]
    subset[::3, 4:] = -1
    queries, targets = given_scores(scores)
    ranking = rank_gallery(dot, queries, targets, target, removed, subset, top)
    expected = oracle(scores, target.tolist(), removed.tolist(), subset.tolist(), top)
    # A subset may hold a target twice here; ranks count the other one, as the oracle's do not: leave those rows out.
    single = [row for row in range(30) if target[row] < 0 or subset[row].tolist().count(int(target[row])) < 2]
    assert len(single) > 15
    assert_equals_oracle(
        Ranking(*(field[single] for field in ranking)), tuple([part[row] for row in single] for part in expected)
    )


@pytest.mark.parametrize("block", [1, 39, 40, 41, 120, 1199, 10_000])
def test_blocks_of_any_size_equal_the_whole(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Blocks have one row, several, an incomplete last block, or all rows."""
    scores = coarse(31, 40, 3, seed=1)
    queries, targets = given_scores(scores)
    target, removed = torch.arange(31), torch.arange(31) + 5
    subset = torch.arange(31)[:, None] + torch.tensor([0, 3, 5])
    whole = rank_gallery(dot, queries, targets, target, removed, subset)
    rows = []

    def counted(some: Tensor, targets: Tensor) -> Tensor:
        rows.append(len(some))
        return some @ targets.T

    monkeypatch.setattr(spn4cir.evaluation.ranking, "_BLOCK_SCORES", block)
    monkeypatch.setattr(spn4cir.evaluation.ranking, "_CACHED_SCORES", block // 3)
    parts = rank_gallery(counted, queries, targets, target, removed, subset)
    assert max(rows) == min(31, max(1, block // 40))
    assert sum(rows) == 31
    for ours, theirs in zip(parts, whole, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("gallery", [1, 2, 49, 50, 51])
def test_galleries_around_the_length_of_the_list(gallery: int) -> None:
    """A list has the length of the gallery if that is below 50."""
    scores = coarse(4, gallery, 3, seed=gallery)
    queries, targets = given_scores(scores)
    ranking = rank_gallery(dot, queries, targets, torch.zeros(4, dtype=torch.long))
    assert ranking.top.shape == (4, min(50, gallery))
    assert_equals_oracle(ranking, oracle(scores, [0] * 4))


def test_late_interaction_scores_serve_too() -> None:
    """Only the score function depends on the shape of targets of several tokens."""
    generator = torch.Generator().manual_seed(0)
    queries, targets = torch.randn(5, 8, generator=generator), torch.randn(20, 3, 8, generator=generator)

    def late(some: Tensor, tokens: Tensor) -> Tensor:
        return torch.einsum("qd,gtd->qgt", some, tokens).amax(dim=2)

    target = torch.arange(5)
    assert_equals_oracle(rank_gallery(late, queries, targets, target), oracle(late(queries, targets), target.tolist()))


def test_inputs_are_left_as_they_are() -> None:
    queries, targets = given_scores(coarse(4, 9, 3, 0))
    before = queries.clone(), targets.clone()
    rank_gallery(dot, queries, targets, torch.arange(4), torch.arange(4) + 1)
    assert torch.equal(queries, before[0])
    assert torch.equal(targets, before[1])


def test_top_candidates_breaks_ties_by_column() -> None:
    """Of five equal scores the first three columns are taken, also after two better ones."""
    values, columns = top_candidates(torch.tensor([[1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0]]), 5)
    assert columns.tolist() == [[4, 1, 0, 2, 3]]
    assert values.tolist() == [[3.0, 2.0, 1.0, 1.0, 1.0]]


def test_rank_counts_exactly_in_a_wide_gallery() -> None:
    """70,000 ties exceed a count in 16 bits."""
    assert target_rank(torch.zeros(1, 70_000), torch.tensor([5])).tolist() == [69_999]


def test_recall_of_known_ranks() -> None:
    """Of the ranks 0, 1, 9 and 10 a quarter is in the top 1, three quarters in the top 10, all in the top 11."""
    ranks = torch.tensor([0, 1, 9, 10])
    assert [recall_of_ranks(ranks, k) for k in (1, 2, 10, 11)] == [25.0, 50.0, 75.0, 100.0]


@pytest.mark.parametrize(("ranks", "k"), [([], 1), ([0, 1], 0), ([0, -1], 5)])
def test_recall_of_nothing_or_of_unranked_queries_is_an_error(ranks: list[int], k: int) -> None:
    with pytest.raises(ValueError, match="recall needs"):
        recall_of_ranks(torch.tensor(ranks, dtype=torch.long), k)


def test_recall_counts_ties_against_the_target() -> None:
    """With equal scores everywhere, the target is found only in a list of the whole gallery."""
    ranks = target_rank(torch.ones(3, 4), torch.tensor([0, 1, 3]))
    assert [recall_of_ranks(ranks, k) for k in (1, 3, 4)] == [0.0, 0.0, 100.0]
