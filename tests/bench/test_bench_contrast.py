"""Weights, the robust loss, hardness and excluded candidates beside InfoNCE, at FashionIQ's size: time and memory."""

from collections.abc import Callable
from time import perf_counter
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from spn4cir.config.training import Quantile
from spn4cir.losses import INFO_NCE, Contrast, info_nce, token_info_nce, token_scores
from spn4cir.training.bank import Bank
from spn4cir.training.false_negatives import FalseNegatives
from spn4cir.types import Triplet
from tests.bench.conftest import PeakMemory, RatioToBare
from tests.helpers.contrasts import EXAMPLES, example

# Unique training images; batch, shape of a target and temperature of CLIP and of BLIP-2 as published.
IMAGES = 25_136
CLIP = (256, (640,), 0.02)
BLIP2 = (32, (32, 256), 0.05)
LIMIT = 1.15

LIMITED = ("weighted", "robust", "robust_and_weighted")

STEP = """
import torch
import torch.nn.functional as F
from spn4cir.losses import info_nce, token_info_nce
from tests.helpers.contrasts import example

batch, shape, tau = {case}
bank = torch.empty({images}, *shape)
for part in bank.split(512):
    part.copy_(F.normalize(torch.randn(part.shape), dim=-1))
queries = F.normalize(torch.randn(batch, shape[-1]), dim=1).requires_grad_()
loss = info_nce if len(shape) == 1 else token_info_nce
loss(queries, bank, torch.zeros(batch).long(), tau, example("{name}", batch, {images})).backward()
assert queries.grad.isfinite().all()
"""


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(shape), dim=-1)


@pytest.mark.parametrize("case", [CLIP, BLIP2], ids=["clip", "blip2"])
@pytest.mark.parametrize("name", EXAMPLES[1:])
def test_loss_beside_info_nce(
    ratio_to_bare: RatioToBare,
    peak_memory: PeakMemory,
    benchmark: BenchmarkFixture,
    case: tuple[int, tuple[int, ...], float],
    name: str,
) -> None:
    """Forward and backward: weights and the robust loss take at most 1.15 times as long as InfoNCE.

    None takes as much memory more as another matrix of the logits.
    """
    torch.manual_seed(0)
    batch, shape, tau = case
    queries, bank, labels = unit(batch, shape[-1]).requires_grad_(), unit(IMAGES, *shape), torch.zeros(batch).long()
    loss: Callable[..., Tensor] = info_nce if len(shape) == 1 else token_info_nce

    def step(contrast: Contrast) -> None:
        loss(queries, bank, labels, tau, contrast).backward()

    contrast = example(name, batch, IMAGES)
    ratio = ratio_to_bare(lambda: step(contrast), lambda: step(INFO_NCE), rounds=12)
    del bank
    plain, beside = (peak_memory(STEP.format(case=case, images=IMAGES, name=each)) for each in ("info_nce", name))
    logits = batch * IMAGES * 4 / 1e6
    benchmark.extra_info.update(mb_beside_info_nce=round(beside - plain, 1), mb_of_the_logits=round(logits, 1))
    # The peaks of two processes differ by a few MB in any case.
    assert beside - plain <= max(logits, 8)
    if name in LIMITED:
        benchmark.extra_info["limit"] = LIMIT
        assert ratio <= LIMIT


@pytest.mark.parametrize(("targets", "shape"), [(256, (640,)), (1, (32, 256))], ids=["clip", "blip2"])
def test_false_negatives_of_new_targets(
    ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture, targets: int, shape: tuple[int, ...]
) -> None:
    """Takes at most 5 times as long as the bare products, once for each target; then the rows are read again."""
    torch.manual_seed(0)
    features = unit(IMAGES, *shape)
    names = [f"i{row}" for row in range(IMAGES)]
    bank = Bank(SimpleNamespace(), features, {name: row for row, name in enumerate(names)})  # type: ignore[arg-type]
    triplets = [Triplet(names[row + 1], ("text",), names[row]) for row in range(targets)]
    chosen = torch.arange(targets)
    queries = features[:targets].reshape(-1, shape[-1])
    score = (lambda one, many: one @ many.T) if len(shape) == 1 else token_scores
    composer = SimpleNamespace(score=score)

    def find() -> FalseNegatives:
        found = FalseNegatives(triplets, bank, Quantile(quantile=0.99), features)
        found.in_bank(composer, chosen)  # type: ignore[arg-type]
        return found

    ratio = ratio_to_bare(find, lambda: score(queries, features), rounds=5)
    known = find()
    started = perf_counter()
    pairs = known.in_bank(composer, chosen)  # type: ignore[arg-type]
    benchmark.extra_info.update(
        targets=targets,
        ms_of_known_targets=round(1e3 * (perf_counter() - started), 1),
        bytes_of_each_target=4 * pairs.shape[1] // targets,
        limit=5,
    )
    assert ratio <= 5
