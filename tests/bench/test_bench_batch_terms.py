"""The loss from targets to queries beside the loss against the bank, at FashionIQ's size."""

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from spn4cir.losses import info_nce, token_info_nce, token_scores
from spn4cir.training.batch_terms import target_to_query_info_nce
from tests.bench.conftest import RatioToBare

IMAGES = 25_136
# Batch, temperature and shape of a target feature.
SIZES = {"clip": (256, 0.02, (640,)), "blip2": (32, 0.05, (32, 256))}


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(shape), dim=-1)


@pytest.mark.parametrize("family", SIZES)
def test_targets_to_queries(ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture, family: str) -> None:
    """Forward and backward: at most a tenth of the time of the loss against the bank."""
    torch.manual_seed(0)
    batch, tau, shape = SIZES[family]
    queries, bank = unit(batch, shape[-1]).requires_grad_(), unit(IMAGES, *shape)
    labels, temperature = torch.randint(IMAGES, (batch,)), torch.tensor(tau)

    def plain() -> Tensor:
        loss = info_nce if family == "clip" else token_info_nce
        return loss(queries, bank, labels, temperature)

    def term() -> Tensor:
        own = bank[labels]
        scores = queries @ own.T if family == "clip" else token_scores(queries, own)
        return target_to_query_info_nce(scores, labels, temperature)

    ratio = ratio_to_bare(lambda: term().backward(), lambda: plain().backward(), rounds=5)
    benchmark.extra_info["limit"] = 0.1
    assert ratio <= 0.1
