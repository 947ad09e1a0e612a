"""The robust loss, weights, hard negatives and excluded candidates against closed forms and against autograd."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.losses import INFO_NCE, Contrast, info_nce, sampled_info_nce, token_info_nce
from spn4cir.losses.contrast import replace_by_gradients
from spn4cir.losses.dot_products import _Contrast, _ScoreContrast
from tests.helpers.contrasts import naive

ROBUST = Contrast(robust=torch.tensor([True]))
LABELS = torch.tensor([0, 8, 3, 3])
# Robust queries come first, as the autograd functions expect them.
CONTRASTS = {
    "weights": Contrast(weights=torch.tensor([0.1, 2.0, 1.0, 0.5])),
    "robust": Contrast(robust=torch.tensor([True, True, False, False])),
    "excluded": Contrast(excluded=torch.tensor([[0, 0, 3, 2], [5, 6, 8, 8]])),
}
CONTRASTS["all"] = Contrast(
    CONTRASTS["weights"].weights, CONTRASTS["robust"].robust, 0.0, CONTRASTS["excluded"].excluded
)


def unit(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(values, dim=-1)


def scored(logits: list[float], contrast: Contrast, label: int = 0) -> tuple[float, Tensor]:
    """Returns the loss and its gradient for one query with the given logits, at temperature 1."""
    targets = torch.tensor(logits)[:, None]
    query = torch.ones(1, 1)
    targets.requires_grad_()
    loss = info_nce(query, targets, torch.tensor([label]), 1.0, contrast)
    loss.backward()
    return float(loss.detach()), targets.grad.squeeze(1)


@pytest.mark.parametrize("candidates", [2, 3, 1000])
def test_robust_loss_of_equal_scores(candidates: int) -> None:
    """p = 1/N for each of the N - 1 negatives."""
    loss, gradient = scored([0.5] * candidates, ROBUST)
    assert loss == pytest.approx(-(candidates - 1) * math.log1p(-1 / candidates), rel=1e-5)
    # r = 1 / (N - 1), whose sum over the negatives is 1.
    negative = 1 / (candidates - 1) - 1 / candidates
    expected = torch.tensor([-1 / candidates, *[negative] * (candidates - 1)])
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_robust_loss_of_two_candidates_is_infonce() -> None:
    """1 - p_j is then p_y."""
    one, other = scored([0.3, 1.2], ROBUST), scored([0.3, 1.2], INFO_NCE)
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    torch.testing.assert_close(one[1], other[1])


def test_robust_loss_of_a_query_without_negatives() -> None:
    loss, gradient = scored([0.3], ROBUST)
    assert (loss, gradient.tolist()) == (0.0, [0.0])


@pytest.mark.parametrize("lead", [5.0, 10.0, 14.0])
def test_a_sure_negative_keeps_its_digits(lead: float) -> None:
    """1 - p of the leading negative would have few digits in float32; loss and gradient equal those in float64."""
    logits = [0.2, lead, 0.0, -1.0]
    wide = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = naive(wide[None], torch.tensor([0]), 1.0, ROBUST)
    expected.backward()
    loss, gradient = scored(logits, ROBUST)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(gradient, wide.grad.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("lead", [30.0, 100.0, 1e4, 1e8])
def test_an_absolutely_sure_negative_has_a_finite_loss(lead: float) -> None:
    """Its 1 - p is at least 1e-7, and no gradient exceeds 1."""
    loss, gradient = scored([0.0, lead, 0.0], ROBUST)
    assert loss == pytest.approx(-math.log(1e-7), rel=1e-5)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) <= 1


@pytest.mark.parametrize("logits", [[1e4, 0.0, -1e4], [0.0, 1e4, 1e4]])
def test_extreme_logits_are_finite(logits: list[float]) -> None:
    for hardness in (0.0, 0.5, 2.0):
        for contrast in (replace(ROBUST, hardness=hardness), Contrast(weights=torch.ones(1), hardness=hardness)):
            loss, gradient = scored(logits, contrast)
            assert math.isfinite(loss)
            assert bool(gradient.isfinite().all())


def test_robust_gradient_on_the_label_is_bounded() -> None:
    """A wrong label pulls with 1 - p_y or less in InfoNCE; the robust loss pulls less where the label is unlikely."""
    logits = [-3.0, 2.0, 1.5, 0.0]
    assert -scored(logits, ROBUST)[1][0] < -scored(logits, INFO_NCE)[1][0] / 5


def test_hardness_of_equal_scores_changes_nothing() -> None:
    """The weights are then 1."""
    assert scored([0.5] * 7, Contrast(hardness=0.8))[0] == pytest.approx(math.log(7), rel=1e-6)


def test_hardness_of_two_negatives() -> None:
    """Logits 0, log 2 and log 4 with beta 1: weights 2/3 and 4/3, so the denominator is 1 + 4/3 + 16/3."""
    loss, gradient = scored([0.0, math.log(2), math.log(4)], Contrast(hardness=1.0))
    assert loss == pytest.approx(math.log(23 / 3), rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([3 / 23 - 1, 4 / 23, 16 / 23]))


def test_hardness_counts_only_negatives_that_stay() -> None:
    """An excluded candidate changes neither the number of negatives nor their weights."""
    with_it = scored([0.0, 5.0, math.log(2), math.log(4)], Contrast(hardness=1.0, excluded=torch.tensor([[0], [1]])))
    assert with_it[0] == pytest.approx(math.log(23 / 3), rel=1e-6)
    assert float(with_it[1][1]) == 0


@pytest.mark.parametrize("contrast", [INFO_NCE, ROBUST, Contrast(hardness=0.5)])
def test_without_negatives_there_is_no_loss(contrast: Contrast) -> None:
    loss, gradient = scored([0.3, 2.0, 1.0], replace(contrast, excluded=torch.tensor([[0, 0], [1, 2]])))
    assert loss == pytest.approx(0, abs=1e-7)
    assert gradient.tolist() == [0, 0, 0]


def test_weights_are_shares_of_the_mean() -> None:
    """L = (3 L_1 + L_2) / 4, whatever the scale of the weights."""
    queries, targets, labels = unit(2, 4).float(), unit(5, 4, seed=1).float(), torch.tensor([1, 4])
    one, other = (info_nce(queries[row : row + 1], targets, labels[row : row + 1], 0.1) for row in (0, 1))
    for scale in (1.0, 0.01):
        weights = scale * torch.tensor([3.0, 1.0])
        found = info_nce(queries, targets, labels, 0.1, Contrast(weights=weights))
        assert float(found) == pytest.approx((3 * float(one) + float(other)) / 4, rel=1e-5)


@pytest.mark.parametrize("name", CONTRASTS)
def test_backward_passes_gradcheck(name: str) -> None:
    """Checks the autograd functions in float64, because the public functions cast to float32."""
    queries, targets = (unit(rows, 6, seed=rows).requires_grad_() for rows in (4, 9))
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    scores = (queries @ targets.T).detach().requires_grad_()
    contrast = CONTRASTS[name]

    def dots(queries: Tensor, targets: Tensor, tau: Tensor) -> Tensor:
        return _Contrast.apply(queries, targets, LABELS, tau, contrast)

    assert torch.autograd.gradcheck(dots, (queries, targets, tau))
    assert torch.autograd.gradcheck(lambda s, t: _ScoreContrast.apply(s, LABELS, t, contrast), (scores, tau))


@pytest.mark.parametrize("hardness", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("tokens", [None, 3])
def test_value_and_gradients_are_those_of_autograd(name: str, hardness: float, tokens: int | None) -> None:
    """In float32 against float64, for vectors and for tokens, in both arguments and in the temperature."""
    contrast = replace(CONTRASTS[name], hardness=hardness)
    shape = (9, 6) if tokens is None else (9, tokens, 6)
    found: list[list[Any]] = []
    for wide in (False, True):
        leaves = [unit(4, 6, seed=1), unit(*shape, seed=2), torch.tensor(0.2, dtype=torch.float64)]
        queries, targets, tau = (leaf.to(torch.float64 if wide else torch.float32).requires_grad_() for leaf in leaves)
        if wide:
            scores = queries @ targets.T if tokens is None else torch.einsum("bd,ntd->bnt", queries, targets).amax(2)
            loss = naive(scores, LABELS, tau, contrast)
        else:
            loss = (info_nce if tokens is None else token_info_nce)(queries, targets, LABELS, tau, contrast)
        (3 * loss).backward()
        found.append([value.float() for value in (loss.detach(), queries.grad, targets.grad, tau.grad)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_queries_stay_in_their_order() -> None:
    """Robust queries are computed first; the gradient of each query arrives at that query."""
    robust = torch.tensor([False, True, False, True])
    contrast = Contrast(torch.tensor([1.0, 2.0, 3.0, 4.0]), robust, 0.0, torch.tensor([[1, 2], [4, 5]]))
    queries, targets = unit(4, 6).float().requires_grad_(), unit(9, 6, seed=1).float()
    info_nce(queries, targets, LABELS, 0.2, contrast).backward()
    wide = queries.detach().double().requires_grad_()
    naive(wide @ targets.double().T, LABELS, 0.2, contrast).backward()
    torch.testing.assert_close(queries.grad, wide.grad.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("name", ["plain", *CONTRASTS])
def test_frozen_targets_are_compared_with_some_queries_at_a_time(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spn4cir.losses.dot_products._FEWEST_ROWS", at_once)
    monkeypatch.setattr("spn4cir.losses.dot_products._HELD_VALUES", 0)
    compared: list[int] = []

    def counted(logits: Tensor, labels: Tensor, contrast: Contrast) -> Tensor:
        compared.append(len(logits))
        return replace_by_gradients(logits, labels, contrast)

    monkeypatch.setattr("spn4cir.losses.dot_products.replace_by_gradients", counted)
    contrast = replace({"plain": INFO_NCE, **CONTRASTS}[name], hardness=0.0 if name == "plain" else 0.5)
    order = torch.tensor([3, 0, 2, 1])  # the queries of the robust loss are not the first ones
    place = torch.argsort(order)
    shuffled = Contrast(
        None if contrast.weights is None else contrast.weights[order],
        None if contrast.robust is None else contrast.robust[order],
        contrast.hardness,
        None if contrast.excluded is None else torch.stack([place[contrast.excluded[0]], contrast.excluded[1]]),
    )
    found: list[list[Any]] = []
    for wide in (False, True):
        leaves = [unit(4, 6, seed=1), unit(9, 6, seed=2), torch.tensor(0.2, dtype=torch.float64)]
        queries, targets, tau = (leaf.to(torch.float64 if wide else torch.float32) for leaf in leaves)
        queries.requires_grad_()
        tau.requires_grad_()
        if wide:
            loss = naive(queries @ targets.T, LABELS, tau, contrast)
        else:
            loss = info_nce(queries[order], targets, LABELS[order], tau, shuffled)
        (3 * loss).backward()
        found.append([value.float() for value in (loss.detach(), queries.grad, tau.grad)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    assert sum(compared) == 4
    assert max(compared) == at_once


def test_the_temperature_alone_may_ask_for_a_gradient() -> None:
    queries, targets = unit(4, 6).float(), unit(9, 6, seed=1).float()
    tau = torch.tensor(0.2, requires_grad=True)
    info_nce(queries, targets, LABELS, tau, CONTRASTS["all"]).backward()
    assert tau.grad is not None
    assert queries.grad is None


def test_half_precision_features_are_scored_in_float32() -> None:
    queries, targets = unit(4, 6).float(), unit(9, 6, seed=1).float()
    for loss, candidates in ((info_nce, targets), (token_info_nce, targets[:, None])):
        whole = loss(queries, candidates, LABELS, 0.02, CONTRASTS["all"])
        with torch.autocast("cpu", torch.bfloat16):
            half = loss(queries, candidates, LABELS, 0.02, CONTRASTS["all"])
        assert half.dtype is torch.float32
        assert torch.equal(half, whole)


@pytest.mark.parametrize("hardness", [0.0, 0.5])
@pytest.mark.parametrize("name", CONTRASTS)
def test_as_many_samples_as_candidates_are_the_whole(name: str, hardness: float) -> None:
    contrast = replace(CONTRASTS[name], hardness=hardness)
    scores = unit(4, 9).float()
    sampled = sampled_info_nce(scores, LABELS, 0.2, 100, torch.Generator().manual_seed(0), contrast)
    whole = naive(scores.double(), LABELS, 0.2, contrast)
    assert float(sampled) == pytest.approx(float(whole), rel=1e-5)


def test_excluded_candidates_are_not_drawn() -> None:
    """The others fill the sample: with equal scores, each loss is the logarithm of the size of the sample."""
    excluded = torch.tensor([[0] * 5 + [1] * 8, [1, 2, 3, 4, 5, *range(1, 9)]])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.zeros(2, 10).scatter_(1, excluded[1][None, :5], 50.0)
        scores[1, 1:9] = 50.0
        scores.requires_grad_()
        loss = sampled_info_nce(scores, torch.tensor([0, 0]), 1.0, 4, generator, Contrast(excluded=excluded))
        loss.backward()
        # The first query has 4 negatives left, the second 1.
        assert float(loss.detach()) == pytest.approx((math.log(5) + math.log(2)) / 2, rel=1e-6)
        assert bool((scores.grad[excluded[0], excluded[1]] == 0).all())


def test_the_plain_draw_does_not_depend_on_the_contrast() -> None:
    scores = unit(4, 50).float()
    one, other = (
        sampled_info_nce(scores, LABELS, 0.2, 7, torch.Generator().manual_seed(3), contrast)
        for contrast in (INFO_NCE, Contrast(weights=torch.ones(4)))
    )
    assert float(one) == pytest.approx(float(other), rel=1e-6)
