"""The bias against hubs: its closed form, its blocks, and what it does to a constructed hub."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import spn4cir.evaluation.ranking
from spn4cir.evaluation.hubness import add_bias, hub_biases
from spn4cir.evaluation.ranking import rank_gallery


def dot(queries: Tensor, targets: Tensor) -> Tensor:
    return queries @ targets.T


def drawn(seed: int, *shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_bias_of_two_training_queries() -> None:
    """Scores of the first image are 1 and 0, of the second 0 and 1, of the third 0.6 and 0.8."""
    queries, targets = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    (bias,) = hub_biases(dot, [queries], [targets], 2.0)
    expected = [-math.log(math.exp(2) + 1) / 2] * 2 + [-math.log(math.exp(1.2) + math.exp(1.6)) / 2]
    torch.testing.assert_close(bias, torch.tensor(expected))


def test_equal_images_have_one_bias_which_changes_no_rank() -> None:
    (bias,) = hub_biases(dot, [drawn(0, 9, 4)], [drawn(1, 1, 4).repeat(5, 1)], 20.0)
    torch.testing.assert_close(bias, bias[:1].expand(5))


def test_the_adjusted_score_is_the_log_of_the_inverted_softmax() -> None:
    bank, query, targets = drawn(0, 30, 8), drawn(1, 3, 8), drawn(2, 12, 8)
    (bias,) = hub_biases(dot, [bank], [targets], 15.0)
    scores = dot(query, targets)
    inverted = (15 * scores).exp() / (15 * dot(bank, targets)).exp().sum(dim=0)
    add_bias(bias)(scores, slice(0, 3))
    torch.testing.assert_close(scores, inverted.log() / 15)


@pytest.mark.parametrize("block", [1, 13, 30, 10_000])
@pytest.mark.parametrize("batch", [1, 7, 40])
def test_batches_and_blocks_equal_the_whole(monkeypatch: pytest.MonkeyPatch, block: int, batch: int) -> None:
    """A large beta makes terms that overflow without the shift by the maximum."""
    queries, galleries = drawn(0, 40, 8), [drawn(1, 13, 8), drawn(2, 5, 8)]
    whole = hub_biases(dot, [queries], galleries, 400.0)
    monkeypatch.setattr(spn4cir.evaluation.ranking, "_BLOCK_SCORES", block)
    parts = hub_biases(dot, queries.split(batch), galleries, 400.0)
    for ours, theirs, targets in zip(parts, whole, galleries, strict=True):
        torch.testing.assert_close(ours, theirs)
        exact = -(400.0 * dot(queries, targets).double()).logsumexp(dim=0) / 400
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-6)


def occurrence(top: Tensor, gallery: int) -> Tensor:
    """The number of lists that contain each image."""
    return torch.bincount(top.flatten(), minlength=gallery).double()


def skew(counts: Tensor) -> float:
    """The skewness of the counts, the usual measure of hubness (Radovanovic et al. 2010)."""
    return float((counts - counts.mean()).pow(3).mean() / counts.std(unbiased=False).pow(3))


def test_a_constructed_hub_falls_and_the_targets_rise() -> None:
    """One image is near the common direction of all queries; each query's own target is only near the query."""
    common = torch.zeros(16)
    common[0] = 1.0
    targets = torch.cat(
        [F.normalize(common[None] + 0.05 * drawn(0, 1, 16)), F.normalize(common + 2 * drawn(1, 60, 16))]
    )
    queries = F.normalize(targets[1:] + common + 0.6 * drawn(2, 60, 16), dim=1)
    bank = F.normalize(F.normalize(common + 2 * drawn(3, 500, 16)) + common + 0.6 * drawn(4, 500, 16), dim=1)
    index = torch.arange(1, 61)
    (bias,) = hub_biases(dot, [bank], [targets], 20.0)
    plain = rank_gallery(dot, queries, targets, index, top=5)
    adjusted = rank_gallery(dot, queries, targets, index, top=5, adjust=add_bias(bias))
    before, after = (occurrence(ranking.top, 61) for ranking in (plain, adjusted))
    assert before[0] > 40
    assert after[0] < before[0] / 2
    assert skew(after) < skew(before)
    assert int((adjusted.rank == 0).sum()) > int((plain.rank == 0).sum())


def test_a_removed_candidate_stays_removed_and_subsets_are_ranked_with_the_bias() -> None:
    queries, targets = torch.eye(3)[:1], torch.tensor([[0.9, 0, 0], [0.8, 0, 0], [0.7, 0, 0], [0.6, 0, 0]])
    bias = torch.tensor([5.0, -1.0, 0.0, 0.0])
    subset = torch.tensor([[1, 3]])
    ranking = rank_gallery(
        dot, queries, targets, torch.tensor([3]), torch.tensor([0]), subset, top=3, adjust=add_bias(bias)
    )
    assert ranking.top.tolist() == [[2, 3, 1]]
    assert (ranking.rank.item(), ranking.subset_rank.item()) == (1, 0)
    plain = rank_gallery(dot, queries, targets, torch.tensor([3]), torch.tensor([0]), subset, top=3)
    assert (plain.rank.item(), plain.subset_rank.item()) == (2, 1)
