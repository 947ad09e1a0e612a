import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spn4cir.losses import info_nce, token_info_nce, token_scores
from spn4cir.losses import tokens as token_losses

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**31 - 1)
temperatures = st.sampled_from([0.05, 0.5, 2.0])
# Values of a block: one candidate at a time, a few, all.
blocks = st.sampled_from([1, 60, 1 << 20])


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


def naive_scores(queries: Tensor, targets: Tensor) -> Tensor:
    """Computes the whole (queries, candidates, tokens) tensor at once."""
    return torch.einsum("bd,ntd->bnt", queries, targets).amax(dim=2)


@settings(deadline=None, max_examples=80)
@given(sizes, sizes, sizes, sizes, seeds, temperatures, blocks)
def test_loss_and_gradients_equal_the_naive_ones(
    batch: int, bank: int, tokens: int, dim: int, seed: int, tau: float, block: int
) -> None:
    """For queries, targets and temperature, to 1e-5, whatever the block. Random tokens of 2 and more dimensions
    do not tie."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = (
        unit(batch, dim + 1, generator=generator),
        unit(bank, tokens, dim + 1, generator=generator),
    )
    labels = torch.randint(bank, (batch,), generator=generator)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_losses, "_BLOCK_VALUES", block)
        for blocked in (True, False):
            leaves = [leaf.clone().requires_grad_() for leaf in (queries, targets, torch.tensor(tau))]
            if blocked:
                loss = token_info_nce(leaves[0], leaves[1], labels, leaves[2])
            else:
                loss = F.cross_entropy(naive_scores(leaves[0], leaves[1]) / leaves[2], labels)
            loss.backward()
            results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, sizes, seeds, st.sampled_from([torch.float32, torch.float16]), blocks)
def test_scores_equal_the_naive_ones(
    batch: int, bank: int, tokens: int, seed: int, dtype: torch.dtype, block: int
) -> None:
    """Targets of half precision are compared in float32."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 5, generator=generator), unit(bank, tokens, 5, generator=generator).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_losses, "_BLOCK_VALUES", block)
        scores = token_scores(queries, targets)
    torch.testing.assert_close(scores, naive_scores(queries, targets.float()), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds, temperatures)
def test_one_token_a_candidate_gives_the_plain_loss(batch: int, bank: int, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 4, generator=generator), unit(bank, 4, generator=generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    torch.testing.assert_close(
        token_info_nce(queries, targets[:, None], labels, tau),
        info_nce(queries, targets, labels, tau),
        rtol=1e-5,
        atol=1e-5,
    )


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds, temperatures)
def test_a_bank_as_large_as_the_batch_gives_the_in_batch_loss(batch: int, tokens: int, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 4, generator=generator), unit(batch, tokens, 4, generator=generator)
    order = torch.randperm(batch, generator=generator)
    first = token_info_nce(queries, targets, torch.arange(batch), tau)
    second = token_info_nce(queries, targets[order], torch.argsort(order), tau)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, sizes, seeds, temperatures)
def test_equal_scores_give_the_logarithm_of_their_number(
    batch: int, bank: int, tokens: int, seed: int, tau: float
) -> None:
    """If tokens tie, one of them receives the whole gradient."""
    queries = unit(1, 4, generator=torch.Generator().manual_seed(seed)).expand(batch, 4)
    targets = queries[0].expand(bank, tokens, 4).clone().requires_grad_()
    loss = token_info_nce(queries, targets, torch.zeros(batch, dtype=torch.long), tau)
    loss.backward()
    assert targets.grad is not None
    assert abs(float(loss.detach()) - math.log(bank)) < 1e-5
    reached = (targets.grad.abs().sum(dim=2) > 1e-9).sum(dim=1)
    assert reached.tolist() == [int(bank > 1)] * bank


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([torch.float16, torch.bfloat16]))
def test_autocast_and_half_precision_leave_the_loss_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, targets = unit(4, 16, generator=generator).to(dtype), unit(6, 3, 16, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = token_info_nce(queries, targets, torch.arange(4), 0.05)
    assert loss.dtype is torch.float32
    expected = F.cross_entropy(naive_scores(queries.float(), targets) / 0.05, torch.arange(4))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_a_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        token_info_nce(torch.ones(1, 2), torch.ones(1, 1, 2), torch.tensor([0]), 0)
