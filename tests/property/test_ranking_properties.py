import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spn4cir.evaluation.ranking import Ranking, rank_gallery

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 25)
levels = st.sampled_from([1, 2, 4, 1000])


def dot(queries: Tensor, targets: Tensor) -> Tensor:
    return queries @ targets.T


def draw(queries: int, gallery: int, levels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(levels, (queries, gallery), generator=generator).float(), torch.eye(gallery)


def rank(queries: Tensor, targets: Tensor, target: Tensor, removed: Tensor, top: int = 50) -> Ranking:
    return rank_gallery(dot, queries, targets, target, removed, torch.stack([target, removed], dim=1), top)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, levels, seeds)
def test_permuting_the_gallery_changes_nothing(queries: int, gallery: int, levels: int, seed: int) -> None:
    """Ranks and listed scores do not change, nor do listed candidates if scores differ."""
    generator = torch.Generator().manual_seed(seed)
    scores, targets = draw(queries, gallery, levels, generator)
    target, removed = (torch.randint(gallery, (queries,), generator=generator) for _ in range(2))
    order = torch.randperm(gallery, generator=generator)
    place = torch.argsort(order)
    first = rank(scores, targets, target, removed)
    second = rank(scores, targets[order], place[target], place[removed])
    assert torch.equal(first.rank, second.rank)
    assert torch.equal(first.subset_rank, second.subset_rank)
    assert torch.equal(first.top_scores, second.top_scores)
    alone = (first.top_scores[:, :, None] == first.top_scores[:, None, :]).sum(2) == 1
    assert torch.equal(first.top[alone], order[second.top][alone])


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, levels, seeds, st.integers(1, 30))
def test_top_lists_hold_the_best_in_order(queries: int, gallery: int, levels: int, seed: int, top: int) -> None:
    """Columns are distinct, scores fall, and no other candidate scores higher than the last."""
    generator = torch.Generator().manual_seed(seed)
    scores, targets = draw(queries, gallery, levels, generator)
    ranking = rank_gallery(dot, scores, targets, torch.zeros(queries, dtype=torch.long), top=top)
    for row in range(queries):
        columns = ranking.top[row].tolist()
        assert len(set(columns)) == len(columns) == min(top, gallery)
        values = ranking.top_scores[row].tolist()
        assert values == sorted(values, reverse=True) == scores[row][columns].tolist()
        others = [float(scores[row][c]) for c in range(gallery) if c not in columns]
        assert not others or max(others) <= values[-1]


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(2, 25), levels, seeds)
def test_a_target_among_the_top_agrees_with_its_rank(queries: int, gallery: int, levels: int, seed: int) -> None:
    """A rank below k means that the target is in the top k; without ties its position is the rank."""
    generator = torch.Generator().manual_seed(seed)
    scores, targets = draw(queries, gallery, levels, generator)
    target = torch.randint(gallery, (queries,), generator=generator)
    ranking = rank_gallery(dot, scores, targets, target)
    for row in range(queries):
        place = ranking.top[row].tolist().index(int(target[row]))
        ties = int((scores[row] == scores[row][target[row]]).sum()) - 1
        assert place <= int(ranking.rank[row]) <= place + ties
