from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spn4cir.losses import Contrast, info_nce, token_info_nce
from spn4cir.losses import contrast as kernel
from tests.helpers.contrasts import naive

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**31 - 1)
# With hardness 1, logits differ by 13 at most: no negative is so likely that the robust loss limits it.
temperatures = st.sampled_from([0.3, 1.0])
hardnesses = st.sampled_from([0.0, 0.3, 1.0])
# Values of a block: one row at a time, a few, all.
blocks = st.sampled_from([1, 20, 1 << 19])


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


def drawn(batch: int, bank: int, labels: Tensor, hardness: float, generator: torch.Generator) -> Contrast:
    """Returns random weights, robust queries and excluded candidates, which are no labels."""
    weights = 0.1 + torch.rand(batch, generator=generator)
    robust = torch.rand(batch, generator=generator) < 0.5
    excluded = torch.rand(batch, bank, generator=generator) < 0.3
    excluded[torch.arange(batch), labels] = False
    return Contrast(weights, robust, hardness, excluded.nonzero().T)


@settings(deadline=None, max_examples=80)
@given(sizes, sizes, st.integers(0, 4), seeds, temperatures, hardnesses, blocks)
def test_loss_and_gradients_equal_the_naive_ones(
    batch: int, bank: int, tokens: int, seed: int, tau: float, hardness: float, block: int
) -> None:
    """For queries, targets and temperature, whatever the block; 0 tokens are one vector for each candidate."""
    generator = torch.Generator().manual_seed(seed)
    queries = unit(batch, 5, generator=generator)
    targets = unit(bank, *([tokens] if tokens else []), 5, generator=generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    contrast = drawn(batch, bank, labels, hardness, generator)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_VALUES", block)
        for wide in (False, True):
            dtype = torch.float64 if wide else torch.float32
            leaves = [leaf.to(dtype, copy=True).requires_grad_() for leaf in (queries, targets, torch.tensor(tau))]
            if wide:
                scores = torch.einsum("bd,ntd->bnt", leaves[0], leaves[1].view(bank, -1, 5)).amax(dim=2)
                loss = naive(scores, labels, leaves[2], contrast)
            else:
                loss = (token_info_nce if tokens else info_nce)(leaves[0], leaves[1], labels, leaves[2], contrast)
            loss.backward()
            found.append([loss.detach().float(), *(leaf.grad.float() for leaf in leaves)])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, seeds, hardnesses)
def test_the_order_of_the_batch_is_irrelevant(batch: int, bank: int, seed: int, hardness: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 5, generator=generator), unit(bank, 5, generator=generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    contrast = drawn(batch, bank, labels, hardness, generator)
    order = torch.randperm(batch, generator=generator)
    assert contrast.weights is not None
    assert contrast.robust is not None
    assert contrast.excluded is not None
    rows = torch.argsort(order)[contrast.excluded[0]]
    permuted = replace(
        contrast,
        weights=contrast.weights[order],
        robust=contrast.robust[order],
        excluded=torch.stack([rows, contrast.excluded[1]]),
    )
    torch.testing.assert_close(
        info_nce(queries, targets, labels, 0.2, contrast),
        info_nce(queries[order], targets, labels[order], 0.2, permuted),
        rtol=1e-4,
        atol=1e-5,
    )


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(2, 9), seeds, hardnesses, st.booleans())
def test_excluded_candidates_are_as_absent(batch: int, bank: int, seed: int, hardness: float, robust: bool) -> None:
    """A candidate that every query excludes may as well be missing from the bank."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 5, generator=generator), unit(bank, 5, generator=generator)
    labels = torch.randint(bank - 1, (batch,), generator=generator)
    contrast = Contrast(torch.ones(batch), torch.full((batch,), robust), hardness)
    last = torch.stack([torch.arange(batch), torch.full((batch,), bank - 1)])
    torch.testing.assert_close(
        info_nce(queries, targets, labels, 0.2, replace(contrast, excluded=last)),
        info_nce(queries, targets[:-1], labels, 0.2, contrast),
        rtol=1e-4,
        atol=1e-5,
    )


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, seeds, temperatures, hardnesses)
def test_hardness_never_lowers_the_loss(batch: int, bank: int, seed: int, tau: float, hardness: float) -> None:
    """The mean of w e^z exceeds that of e^z, because w grows with z and has mean 1."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, 5, generator=generator), unit(bank, 5, generator=generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    harder = info_nce(queries, targets, labels, tau, Contrast(hardness=hardness + 0.5))
    assert float(info_nce(queries, targets, labels, tau)) <= float(harder) + 1e-4
