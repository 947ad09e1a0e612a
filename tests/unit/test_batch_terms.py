"""Terms in which the queries of a batch compete for a target: values in closed form, masks and gradients."""

from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from spn4cir.training.batch_terms import Swaps, swap_info_nce, target_to_query_info_nce
from spn4cir.training.batches import BankSource
from tests.conftest import CPU
from tests.helpers.stub import stage2
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


MASKED = torch.tensor([[True, True], [False, True]])
TERMS = {
    "symmetric": lambda tau: target_to_query_info_nce(random_scores(3).float(), torch.tensor([0, 1, 0]), tau),
    "swaps": lambda tau: swap_info_nce(torch.tensor([0.3, -0.2]), random_scores(2).float(), MASKED, tau),
}


@pytest.mark.parametrize("term", TERMS)
def test_the_gradient_of_a_learned_temperature_is_that_of_finite_differences(term: str) -> None:
    """Masked scores do not reach it."""
    tau = torch.tensor(0.5, requires_grad=True)
    TERMS[term](tau).backward()
    high, low = (float(TERMS[term](torch.tensor(0.5 + change))) for change in (1e-2, -1e-2))
    assert tau.grad is not None
    assert float(tau.grad) == pytest.approx((high - low) / 2e-2, rel=1e-2)


def test_swaps_alternate_between_text_and_reference() -> None:
    """The k-th swap of a query takes the text (k odd) or the reference (k even) of the k-th next triplet."""
    swaps = Swaps.of_batch(torch.arange(4), list("abcd"), torch.arange(4, 8), 3)
    assert swaps.text.tolist() == [[1, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2]]
    assert swaps.reference.tolist() == [[0, 1, 2, 3], [2, 3, 0, 1], [0, 1, 2, 3]]
    assert bool(swaps.wrong.all())


def test_a_swap_that_is_right_is_no_negative() -> None:
    """It is right if the other triplet has the same target, or the same text or reference as the own one."""
    reference, texts, target = torch.tensor([0, 1, 0, 3]), ["a", "a", "c", "d"], torch.tensor([5, 6, 7, 7])
    swaps = Swaps.of_batch(reference, texts, target, 2)
    assert swaps.wrong.tolist() == [
        [False, True, False, True],  # 0 and 1 have one text, 2 and 3 have one target
        [False, True, False, True],  # 0 and 2 have one reference
    ]


def test_equal_scores_with_swaps_cost_the_logarithm_of_their_number() -> None:
    """A query whose two swaps are masked costs nothing, one with one swap log 2, one with both log 3."""
    wrong = torch.tensor([[False, True, True], [False, False, True]])
    loss = swap_info_nce(torch.zeros(3), torch.zeros(2, 3), wrong, TAU)
    assert float(loss) == pytest.approx((log(2) + log(3)) / 3)


def test_the_loss_of_swaps_is_cross_entropy_over_the_query_and_its_swaps() -> None:
    own, swapped = random_scores(4)[0].float(), random_scores(4)[1:].float()
    loss = swap_info_nce(own, swapped, torch.ones(3, 4, dtype=torch.bool), TAU)
    expected = -((own / TAU) - torch.cat([own[None], swapped]).div(TAU).logsumexp(dim=0)).mean()
    torch.testing.assert_close(loss, expected)


def test_the_gradient_of_swaps_in_closed_form() -> None:
    """With shares p of the softmax: (p - 1) / (B tau) for the query, p / (B tau) for a swap, 0 for a masked one."""
    own = torch.tensor([0.3, -0.2], requires_grad=True)
    swapped = torch.tensor([[0.1, 0.4], [0.2, 0.0]], requires_grad=True)
    wrong = torch.tensor([[True, True], [False, True]])
    swap_info_nce(own, swapped, wrong, TAU).backward()
    logits = torch.cat([own.detach()[None], swapped.detach().masked_fill(~wrong, -torch.inf)]) / TAU
    shares = logits.softmax(dim=0)
    torch.testing.assert_close(own.grad, (shares[0] - 1) / (2 * TAU))
    torch.testing.assert_close(swapped.grad, shares[1:] / (2 * TAU))
    assert float(swapped.grad[1, 0]) == 0


def test_swapped_queries_are_composed_again() -> None:
    """The term equals one of swaps that are composed one by one."""
    source = BankSource(rows(9), bank(), stage2(batch_size=9), 1, CPU)
    batch, composer = next(source.batches(1)), talkative()
    unit = F.normalize(features(), dim=1)
    logits = torch.empty(9, 4)
    for i in range(9):
        one, two, three = ((i + step) % 9 for step in (1, 2, 3))
        for place, (reference, text) in enumerate([(i, i), (i, one), (two, i), (i, three)]):
            query = composer.compose(features()[batch.reference[reference]][None], [batch.texts[text]])
            logits[i, place] = (query @ unit[batch.target[i]] / 0.1).detach()
    expected = F.cross_entropy(logits, torch.zeros(9, dtype=torch.long))
    torch.testing.assert_close(first_loss(swaps=3) - first_loss(), expected, rtol=1e-4, atol=1e-5)
    both = first_loss(swaps=3, symmetric=0.5) - first_loss(symmetric=0.5)
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-5)


def test_swaps_are_fewer_than_a_batch() -> None:
    assert stage2(batch_size=4, swaps=3).swaps == 3
    with pytest.raises(ValidationError, match="swaps 4 takes as many other triplets of a batch of 4"):
        stage2(batch_size=4, swaps=4)


def test_without_terms_no_scores_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loss composes once and scores nothing but its candidates."""
    composer, calls = talkative(), []
    real = composer.compose
    composer.compose = lambda *args: calls.append("compose") or real(*args)  # type: ignore[method-assign]
    monkeypatch.setattr(composer, "score", lambda *args: calls.append("score"))
    first_loss(composer)
    assert calls == ["compose"]
