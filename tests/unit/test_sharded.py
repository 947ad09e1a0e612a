"""The loss over candidates that are divided among processes, here threads, against the loss over all of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.losses import Contrast
from spn4cir.losses.sharded import sharded_contrast
from tests.helpers.contrasts import naive

BATCH, CANDIDATES, SIZE = 6, 11, 3
LABELS = torch.tensor([0, 10, 3, 3, 5, 1])
PAIRS = torch.tensor([[0, 0, 1, 4, 4, 4], [1, 10, 0, 0, 6, 9]])
HALF = torch.arange(BATCH) % 2 == 0
CONTRASTS = {
    "plain": Contrast(),
    "weights": Contrast(weights=torch.where(HALF, 0.3, 1.0)),
    "robust": Contrast(robust=torch.ones(BATCH, dtype=torch.bool)),
    "hardness": Contrast(hardness=0.5),
    "excluded": Contrast(excluded=PAIRS),
    "all": Contrast(torch.where(HALF, 0.3, 1.0), HALF, 0.5, PAIRS),
}


@dataclass
class Threads:
    """Reductions over threads, each of which is a rank."""

    barrier: Barrier = field(default_factory=lambda: Barrier(SIZE))
    values: list[Any] = field(default_factory=lambda: [None] * SIZE)

    def reduce(self, rank: int, value: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
        self.values[rank] = value.detach()
        self.barrier.wait(20)
        result = operation(torch.stack(self.values))
        self.barrier.wait(20)
        return result


@dataclass
class Rank:
    rank: int
    threads: Threads

    def sum(self, values: Tensor) -> Tensor:
        return self.threads.reduce(self.rank, values, lambda all_: all_.sum(dim=0))

    def maximum(self, values: Tensor) -> Tensor:
        return self.threads.reduce(self.rank, values, lambda all_: all_.amax(dim=0))


def scores_of(seed: int, spread: float) -> Tensor:
    return torch.randn(BATCH, CANDIDATES, generator=torch.Generator().manual_seed(seed)) * spread


def divided(scores: Tensor, contrast: Contrast, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the loss, and the gradients of scores and temperature, of candidates that three threads divide."""
    threads = Threads()
    limits = [CANDIDATES * rank // SIZE for rank in range(SIZE + 1)]

    def part(rank: int) -> tuple[Tensor, Tensor, Tensor]:
        columns = slice(limits[rank], limits[rank + 1])
        own, temperature = scores[:, columns].clone().requires_grad_(), torch.tensor(tau, requires_grad=True)
        here = (columns.start <= LABELS) & (columns.stop > LABELS)
        excluded = contrast.excluded
        if excluded is not None:
            kept = excluded[:, (excluded[1] >= columns.start) & (excluded[1] < columns.stop)]
            excluded = torch.stack([kept[0], kept[1] - columns.start])
        labels = torch.where(here, LABELS - columns.start, -1)
        ours = replace(contrast, excluded=excluded)
        loss = sharded_contrast(own, labels, temperature, ours, Rank(rank, threads))
        loss.backward()
        assert own.grad is not None
        assert temperature.grad is not None
        return loss.detach(), own.grad, temperature.grad

    with ThreadPoolExecutor(SIZE) as pool:
        losses, on_scores, on_temperature = zip(*pool.map(part, range(SIZE)), strict=True)
    return torch.stack(losses).sum(), torch.cat(on_scores, dim=1), torch.stack(on_temperature).sum()


def whole(loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    given, temperature = scores.clone().requires_grad_(), torch.tensor(tau, requires_grad=True)
    value = loss(given, temperature)
    value.backward()
    assert given.grad is not None
    assert temperature.grad is not None
    return value.detach(), given.grad, temperature.grad


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_the_plain_loss_is_torch_s_cross_entropy(spread: float) -> None:
    scores = scores_of(0, spread)
    expected = whole(lambda given, tau: F.cross_entropy(given / tau, LABELS), scores, 0.2)
    torch.testing.assert_close(divided(scores, Contrast(), 0.2), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("seed", range(4))
def test_every_loss_is_that_of_one_process(name: str, seed: int) -> None:
    contrast, scores = CONTRASTS[name], scores_of(seed, 0.3)
    expected = whole(lambda given, tau: naive(given, LABELS, tau, contrast), scores, 0.3)
    torch.testing.assert_close(divided(scores, contrast, 0.3), expected, rtol=1e-4, atol=1e-5)


def test_equal_largest_scores_count_once() -> None:
    """With all scores equal, every candidate is the largest one, in each thread."""
    contrast, scores = CONTRASTS["robust"], torch.zeros(BATCH, CANDIDATES)
    expected = whole(lambda given, tau: naive(given, LABELS, tau, contrast), scores, 0.3)
    torch.testing.assert_close(divided(scores, contrast, 0.3), expected, rtol=1e-4, atol=1e-6)


def test_a_query_whose_only_candidate_is_its_target_costs_nothing() -> None:
    others = torch.tensor([column for column in range(CANDIDATES) if column != 0])
    contrast = Contrast(hardness=0.5, excluded=torch.stack([torch.zeros_like(others), others]))
    loss, on_scores, on_temperature = divided(scores_of(0, 0.3), contrast, 0.3)
    assert bool(torch.isfinite(loss) & torch.isfinite(on_temperature))
    assert torch.equal(on_scores[0], torch.zeros(CANDIDATES))
