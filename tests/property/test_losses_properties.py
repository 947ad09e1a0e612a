import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spn4cir.losses import info_nce, sampled_info_nce

sizes = st.integers(1, 12)
seeds = st.integers(0, 2**31 - 1)
temperatures = st.sampled_from([0.01, 0.05, 0.5, 2.0])


def unit(rows: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=generator), dim=1)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, seeds, temperatures)
def test_a_bank_as_large_as_the_batch_gives_the_in_batch_loss(batch: int, dim: int, seed: int, tau: float) -> None:
    """If the bank contains the batch's targets in another order, loss and query gradients are equal."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, dim, generator), unit(batch, dim, generator)
    order = torch.randperm(batch, generator=generator)
    in_batch, against_bank = queries.clone().requires_grad_(), queries.clone().requires_grad_()
    first = info_nce(in_batch, targets, torch.arange(batch), tau)
    second = info_nce(against_bank, targets[order], torch.argsort(order), tau)
    (first + second).backward()
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_batch.grad, against_bank.grad, rtol=1e-4, atol=1e-5 / tau)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, sizes, seeds, temperatures)
def test_more_negatives_never_lower_the_loss(batch: int, bank: int, dim: int, seed: int, tau: float) -> None:
    """The loss is never below 0."""
    generator = torch.Generator().manual_seed(seed)
    queries, targets = unit(batch, dim, generator), unit(bank + 3, dim, generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    few, many = (float(info_nce(queries, rows, labels, tau)) for rows in (targets[:bank], targets))
    assert -1e-5 <= few <= many + 1e-4


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(2, 20), st.integers(1, 25), seeds)
def test_a_sample_never_exceeds_the_whole(batch: int, bank: int, negatives: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, bank, generator=generator)
    labels = torch.randint(bank, (batch,), generator=generator)
    whole = F.cross_entropy(scores / 0.1, labels)
    assert float(sampled_info_nce(scores, labels, 0.1, negatives, generator)) <= float(whole) + 1e-4
