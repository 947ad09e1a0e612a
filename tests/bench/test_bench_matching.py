"""Partner choice at the size of FashionIQ against the bare blocked matrix product."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from spn4cir.positives.matching import find_partners

IMAGES, DIM = 25_000, 768
WINDOWS = {"far": (10_000, 20_000), "near": (400, 800)}


@pytest.fixture(scope="module")
def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(IMAGES, DIM, generator=generator))


def products(features: Tensor) -> None:
    for block in features.split(2_500):
        block @ features.T


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
def test_costs_little_more_than_the_similarities(
    ratio_to_bare: Callable[..., float], features: Tensor, window: tuple[int, int]
) -> None:
    """At most 3 times the blocked product of all features with all features, whose values are dropped."""
    ratio = ratio_to_bare(lambda: find_partners(features, window, 1, 0), lambda: products(features), rounds=2, warmup=0)
    assert ratio <= 3


def test_no_square_matrix_is_held(benchmark: BenchmarkFixture, peak_memory: Callable[..., float]) -> None:
    """Peak memory of a process that does nothing else is at most 2 GB; the similarities would take 2.5 GB alone."""
    code = (
        "import torch; from spn4cir.positives.matching import find_partners\n"
        f"features = torch.nn.functional.normalize(torch.randn({IMAGES}, {DIM}))\n"
        f"find_partners(features, {WINDOWS['far']}, 1, 0)\n"
    )
    peak = benchmark.pedantic(peak_memory, args=(code,), rounds=1)
    benchmark.extra_info.update(peak_mb=peak)
    assert peak <= 2_000
