"""Terms in which the queries of a batch compete for a target: values in closed form, masks and gradients."""

from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.training.batch_terms import target_to_query_info_nce
from spn4cir.training.batches import BankSource
from tests.conftest import CPU, stage2
from tests.unit.test_trainer import bank, features, rows, talkative

TAU = torch.tensor(0.5)


def random_scores(batch: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(batch, batch, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_equal_scores_cost_the_logarithm_of_the_batch() -> None:
    loss = target_to_query_info_nce(torch.zeros(7, 7), torch.arange(7), TAU)
    assert float(loss) == pytest.approx(log(7))


def test_the_candidates_of_a_target_are_the_queries() -> None:
    """The loss is the cross-entropy of the columns of the scores, not of their rows."""
    scores = random_scores().float()
    loss = target_to_query_info_nce(scores, torch.arange(5), TAU)
    torch.testing.assert_close(loss, F.cross_entropy(scores.T / TAU, torch.arange(5)))
    assert float(loss) != pytest.approx(float(F.cross_entropy(scores / TAU, torch.arange(5))), rel=1e-3)


def test_another_query_of_the_same_image_is_no_candidate() -> None:
    """Of six queries with equal scores, three have one target: it has four candidates, each other target six."""
    loss = target_to_query_info_nce(torch.zeros(6, 6), torch.tensor([4, 1, 4, 2, 4, 3]), TAU)
    assert float(loss) == pytest.approx((3 * log(4) + 3 * log(6)) / 6)


def test_a_batch_of_one_target_costs_nothing() -> None:
    scores = torch.rand(3, 3, requires_grad=True)
    loss = target_to_query_info_nce(scores, torch.zeros(3, dtype=torch.long), TAU)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(scores.grad, torch.zeros(3, 3))


def test_the_gradient_is_softmax_minus_one_hot() -> None:
    """d loss / d s_ji = (softmax_j(s_.i / tau) - [j = i]) / (B tau), and nothing for a masked query."""
    target = torch.tensor([0, 1, 0, 2, 3])
    scores = random_scores().float().requires_grad_()
    target_to_query_info_nce(scores, target, TAU).backward()
    masked = (target[:, None] == target) & ~torch.eye(5, dtype=torch.bool)
    shares = (scores.detach() / TAU).masked_fill(masked, -torch.inf).softmax(dim=0)
    torch.testing.assert_close(scores.grad, (shares - torch.eye(5)) / (5 * TAU))


def first_loss(composer: Any = None, of_bank: Any = None, **changes: Any) -> Tensor:
    """The stage-2 loss of the first batch of nine triplets, whose targets are different images."""
    source = BankSource(rows(9), of_bank or bank(), stage2(batch_size=9, **changes), 1, CPU)
    loss = source.loss(composer or talkative(), next(source.batches(1)))
    assert bool(torch.isfinite(loss))
    return loss.detach()


def test_the_loss_is_the_plain_one_and_the_weighted_term() -> None:
    """With negatives of the batch, both directions are cross-entropies of one matrix of scores."""
    source = BankSource(rows(9), bank(), stage2(batch_size=9), 1, CPU)
    batch = next(source.batches(1))
    queries = talkative().compose(features()[batch.reference], batch.texts)
    scores = queries @ F.normalize(features(), dim=1)[batch.target].T / 0.1
    expected = [F.cross_entropy(each, torch.arange(9)) for each in (scores, scores.T)]
    found = first_loss(negatives="batch", symmetric=0.3)
    torch.testing.assert_close(found, (expected[0] + 0.3 * expected[1]).detach(), rtol=1e-5, atol=1e-5)


def test_the_term_is_computed_in_float32_under_autocast() -> None:
    expected = first_loss(tau=0.005, symmetric=1.0) - first_loss(tau=0.005)
    with torch.autocast("cpu", torch.bfloat16):
        found = first_loss(tau=0.005, symmetric=1.0) - first_loss(tau=0.005)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_learned_temperature_has_a_gradient_from_the_term() -> None:
    composer = talkative()
    composer.temperature.requires_grad_()
    loss = target_to_query_info_nce(random_scores().float(), torch.arange(5), composer.temperature)
    loss.backward()
    assert composer.temperature.grad is not None
    assert float(composer.temperature.grad) != 0
