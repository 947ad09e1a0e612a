"""Memory of a stage-1 step in chunks, at the sizes of the published networks."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from spn4cir.config.load import load_params
from spn4cir.config.training import Optimisation
from spn4cir.training.batches import Batch, ImageSource
from spn4cir.training.chunks import chunked
from spn4cir.training.optimiser import TrainingRun, autocast_dtype, set_dropout
from tests.bench.conftest import PeakMemory
from tests.bench.test_bench_gpu import FULL, ROUNDS, TEXT, waited
from tests.conformance.builders import images

ROOT = Path(__file__).parents[2]
# On the CPU: triplets of the step, and the chunk. Each image is a reference and a target.
BATCH, CHUNK = 8, 1
# On a GPU: the chunk of the published batches, and the memory that they fit into.
GPU_CHUNK, GPU_BYTES = 16, 24e9
_STEP = """
import sys
sys.path.insert(0, {root!r})
from tests.bench.test_bench_chunks import backward_of_blip
backward_of_blip({chunk})
"""


def published(family: str, **changes: Any) -> Optimisation:
    """Returns the settings of FashionIQ's first stage, with changes."""
    return load_params(ROOT / "params.yaml").checkpoint["fiq"][family].train.model_copy(update=changes)


def loss_of(network: Any, settings: Optimisation, count: int, device: torch.device) -> Callable[[], Tensor]:
    """Returns the loss of stage 1 for a batch of random images, `count` of them different."""
    rows = torch.arange(settings.batch_size)
    texts, pixels = [TEXT] * settings.batch_size, images(network, count)
    batch = Batch(texts, rows % count, (rows + settings.batch_size) % count, pixels, torch.arange(count), rows)
    source = ImageSource(None, settings, 0, 0, device, None)  # type: ignore[arg-type]
    dtype = autocast_dtype(settings, device)

    def loss() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return source.loss(chunked(network, settings.chunk), batch)

    return loss


def backward_of_blip(chunk: int | None) -> None:
    """Runs the forward and the backward pass of a step of BLIP in float32."""
    settings = published("blip", batch_size=BATCH, chunk=chunk, precision="float32")
    network = FULL["blip"]().eval()
    TrainingRun.begin(network, settings, 1, 1, torch.device("cpu"))
    loss_of(network, settings, BATCH, torch.device("cpu"))().backward()  # type: ignore[no-untyped-call]


def test_memory_of_a_step_of_blip(benchmark: BenchmarkFixture, peak_memory: PeakMemory) -> None:
    """In fresh processes, with the network and its gradients; the seconds are those of the process in chunks."""
    started = perf_counter()
    whole = peak_memory(_STEP.format(root=str(ROOT), chunk=None))
    seconds = perf_counter() - started
    parts = benchmark.pedantic(peak_memory, args=(_STEP.format(root=str(ROOT), chunk=CHUNK),), rounds=1)
    benchmark.extra_info.update(
        batch=BATCH, chunk=CHUNK, whole_mb=round(whole), chunked_mb=round(parts), whole_seconds=round(seconds, 1)
    )
    assert parts < whole


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: steps at real sizes are measured on a GPU")
@pytest.mark.parametrize("family", ["blip", "blip2"])
def test_the_published_batch_on_one_gpu(benchmark: BenchmarkFixture, family: str) -> None:
    """Forward, backward and AdamW with two images a triplet; memory includes network, optimiser and batch."""
    device, settings = torch.device("cuda"), published(family, chunk=GPU_CHUNK)
    torch.manual_seed(0)
    network: Any = FULL[family]().eval().to(device)
    run = TrainingRun.begin(network, settings, 1, 1, device)
    set_dropout(network, settings.dropout, 0)
    loss = loss_of(network, settings, 2 * settings.batch_size, device)

    def step() -> None:
        run.optimiser.zero_grad(set_to_none=True)
        run.step(loss())

    benchmark.pedantic(waited, args=(step, device), rounds=ROUNDS, warmup_rounds=1)
    peak = torch.cuda.max_memory_allocated()
    benchmark.extra_info.update(batch=settings.batch_size, chunk=GPU_CHUNK, peak_mb=round(peak / 1e6))
    assert peak < GPU_BYTES
