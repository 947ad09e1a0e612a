"""InfoNCE against closed forms and against torch's own cross-entropy and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.losses import info_nce, sampled_info_nce
from spn4cir.losses.dot_products import _InfoNCE


def unit(rows: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(values, dim=1).to(dtype)


def plain(queries: Tensor, targets: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The definition in terms of torch functions."""
    return F.cross_entropy(queries @ targets.T / temperature, labels)


@pytest.mark.parametrize("candidates", [1, 2, 1000])
def test_equal_scores_give_the_log_of_the_candidates(candidates: int) -> None:
    loss = info_nce(torch.zeros(7, 5), unit(candidates, 5, 0), torch.zeros(7, dtype=torch.long), 0.02)
    assert loss.item() == pytest.approx(math.log(candidates), abs=1e-6)


def test_a_perfect_query_against_opposite_candidates_has_no_loss() -> None:
    """s = 1 for the target, -1 for three others: log(1 + 3 exp(-2 / tau))."""
    target = unit(1, 4, 0)
    targets = torch.cat([target, -target, -target, -target])
    loss = info_nce(target, targets, torch.tensor([0]), 0.5)
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-4)), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.02, 1.0])
@pytest.mark.parametrize("candidates", [8, 50])
def test_value_and_gradients_are_those_of_cross_entropy(temperature: float, candidates: int) -> None:
    """The hand-written backward agrees with autograd in both arguments, also with a scaled upstream gradient."""
    queries, targets = unit(8, 16, 1).requires_grad_(), unit(candidates, 16, 2).requires_grad_()
    labels = torch.arange(8).flip(0) % candidates
    (3.0 * info_nce(queries, targets, labels, temperature)).backward()
    wide_queries, wide_targets = (x.detach().double().requires_grad_() for x in (queries, targets))
    expected = plain(wide_queries, wide_targets, labels, temperature)
    (3.0 * expected).backward()
    ours = info_nce(queries, targets, labels, temperature).detach()
    assert float(ours) == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-6)
    for narrow, wide in ((queries, wide_queries), (targets, wide_targets)):
        torch.testing.assert_close(narrow.grad, wide.grad.float(), rtol=1e-4, atol=1e-6 / temperature)


def test_backward_passes_gradcheck() -> None:
    """Checks the autograd function in float64, because `info_nce` casts to float32."""
    queries, targets = (unit(rows, 6, rows, torch.float64).requires_grad_() for rows in (4, 9))
    labels = torch.tensor([0, 8, 3, 3])
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, t, tau: _InfoNCE.apply(q, t, labels, tau), (queries, targets, tau))


def test_only_what_asks_gets_a_gradient() -> None:
    """The bank of stage 2 requires no gradient."""
    queries, bank = unit(3, 4, 1).requires_grad_(), unit(5, 4, 2)
    info_nce(queries, bank, torch.tensor([0, 1, 2]), 0.1).backward()
    assert queries.grad is not None
    assert bank.grad is None


def test_arguments_are_left_as_they_are() -> None:
    """Only the logits are changed in place; queries and targets are not."""
    queries, targets = unit(3, 4, 1), unit(5, 4, 2)
    before = queries.clone(), targets.clone()
    info_nce(queries, targets, torch.tensor([0, 1, 2]), 0.1)
    assert torch.equal(queries, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_logits_do_not_overflow(scale: float) -> None:
    """exp(1000) is infinite in float32, but the loss and its gradients are finite and equal those in float64."""
    queries, targets = unit(4, 8, 3), unit(20, 8, 4)
    labels = torch.arange(4)
    queries.requires_grad_()
    loss = info_nce(queries, targets, labels, 1 / scale)
    loss.backward()
    assert torch.isfinite(queries.grad).all()
    wide = plain(queries.detach().double(), targets.double(), labels, 1 / scale)
    assert loss.item() == pytest.approx(float(wide), rel=1e-5)


def test_a_small_loss_beside_a_large_logit_keeps_its_digits() -> None:
    """If the target leads by far, the loss is about exp(-8), which float32 cannot resolve next to logits of 10,000."""
    targets = torch.tensor([[1.0, 0.0], [1.0 - 8 / 8192, 0.0]])
    queries = torch.tensor([[1.0, 0.0]])
    loss = info_nce(queries, targets, torch.tensor([0]), 1 / 8192)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-8)), rel=1e-2)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        info_nce(unit(1, 2, 0), unit(2, 2, 1), torch.tensor([0]), temperature)


def test_half_precision_features_are_scored_in_float32() -> None:
    """A product in bfloat16 would be off by 0.2 at tau 0.02; autocast does not change the loss."""
    queries, targets = unit(16, 64, 1), unit(40, 64, 2)
    labels = torch.arange(16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(queries, targets, labels, 0.02)
    assert loss.dtype is torch.float32
    assert torch.equal(loss, info_nce(queries, targets, labels, 0.02))
    rounded = info_nce(queries.bfloat16(), targets, labels, 0.02)
    assert torch.equal(rounded, info_nce(queries.bfloat16().float(), targets, labels, 0.02))


def test_gradients_reach_half_precision_queries() -> None:
    queries = unit(4, 8, 1).bfloat16().requires_grad_()
    info_nce(queries, unit(9, 8, 2), torch.arange(4), 0.1).backward()
    assert queries.grad.dtype is torch.bfloat16
    assert float(queries.grad.float().abs().sum()) > 0


@pytest.mark.parametrize("negatives", [9, 10, 10_000])
def test_as_many_samples_as_candidates_are_the_whole(negatives: int) -> None:
    scores, labels = unit(6, 10, 1), torch.tensor([0, 9, 3, 3, 5, 1])
    sampled = sampled_info_nce(scores, labels, 0.05, negatives, torch.Generator().manual_seed(0))
    assert float(sampled) == pytest.approx(float(F.cross_entropy(scores / 0.05, labels)), rel=1e-6)


def test_samples_are_distinct_and_never_the_target() -> None:
    """With a score of 0 everywhere but -1000 at the target: log(1 + K exp(1000)) = 1000 + log K, for distinct others.

    A target drawn as its own negative would lower it to 1000 + log(K - 1), a candidate drawn twice would not show
    here but in its gradient: each candidate gets at most one share of 1/K.
    """
    labels = torch.arange(50) % 12
    for seed in range(20):
        scores = torch.zeros(50, 12).scatter_(1, labels[:, None], -1000.0).requires_grad_()
        loss = sampled_info_nce(scores, labels, 1.0, 7, torch.Generator().manual_seed(seed))
        loss.backward()
        assert loss.item() == pytest.approx(1000 + math.log(7), abs=1e-3)
        share = scores.grad * 50
        assert torch.count_nonzero(share > 0.5 / 7, dim=1).tolist() == [7] * 50
        assert float(share.max()) == pytest.approx(1 / 7, rel=1e-4)


def test_every_other_candidate_is_drawn_equally_often() -> None:
    """In 4,000 draws of 3 of 9, each is drawn 1,333 times, within five standard deviations."""
    scores = torch.zeros(4000, 10, requires_grad=True)
    labels = torch.full((4000,), 4)
    sampled_info_nce(scores, labels, 1.0, 3, torch.Generator().manual_seed(1)).backward()
    drawn = torch.count_nonzero(scores.grad > 0, dim=0)
    assert int(drawn[4]) == 0
    others = drawn[torch.arange(10) != 4]
    assert int(others.sum()) == 3 * 4000
    assert float((others - 4000 / 3).abs().max()) < 5 * math.sqrt(4000 * (1 / 3) * (2 / 3))


def test_the_generator_alone_decides_the_draw() -> None:
    scores, labels = unit(6, 100, 1), torch.arange(6)

    def draw(seed: int) -> Tensor:
        return sampled_info_nce(scores, labels, 0.05, 5, torch.Generator().manual_seed(seed))

    first = draw(3)
    torch.manual_seed(99)
    assert torch.equal(first, draw(3))
    assert not torch.equal(first, draw(4))
