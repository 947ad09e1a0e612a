"""Memory of a stage-1 step in chunks, at the sizes of the published networks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from transformers import masking_utils

from spn4cir.config.load import load_params
from spn4cir.config.training import Optimisation
from spn4cir.training.batches import Batch, ImageSource
from spn4cir.training.chunks import chunked
from spn4cir.training.optimiser import TrainingRun, autocast_dtype, set_dropout
from tests.bench.test_bench_gpu import FULL, ROUNDS, TEXT, waited
from tests.conformance.builders import Subject, images
from tests.conftest import CPU

ROOT = Path(__file__).parents[2]
# The chunk of the published batches, and the memory of the GPU that they fit into.
CHUNK, GPU_BYTES = 16, 24e9


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


def kept(network: Any, compute: Callable[[], Any]) -> int:
    """Returns the bytes that a computation keeps for its backward pass, without the weights."""
    weights = {each.untyped_storage()._cdata for each in network.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = compute()
    del value
    return sum(each.nbytes() for key, each in storages.items() if key not in weights)


@pytest.mark.parametrize("family", ["blip", "blip2"])
def test_what_the_published_batch_keeps(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """In float32, with two images a triplet; on the meta device, so that nothing is computed.

    In chunks a step keeps pixels and features between both passes, and beside them the activations of one chunk.
    """
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *args, **kwargs: False)
    with torch.device("meta"):
        network: Any = FULL[family]().eval()
    network.train_stage(1)
    count, size = published(family).batch_size, network.preprocess.size
    pixels = torch.empty(2 * count, 3, size, size, device="meta")

    def queries(view: Any, batch: int) -> tuple[Tensor, Tensor]:
        features = view.encode_image(pixels[: 2 * batch])
        return view.compose(features.reference[:batch], [TEXT] * batch), features.target

    whole = benchmark.pedantic(kept, args=(network, partial(queries, network, count)), rounds=1)
    between = kept(network, partial(queries, chunked(network, CHUNK), count))
    chunk = kept(network, partial(queries, network, CHUNK))
    figures = {"whole_gb": whole / 1e9, "between_gb": between / 1e9, "chunk_gb": chunk / 1e9}
    benchmark.extra_info.update(batch=count, chunk=CHUNK, **figures)
    assert between + chunk < min(GPU_BYTES, whole)


def test_the_same_step_with_a_tiny_network(tmp_path: Path) -> None:
    """On the CPU: the step that is measured on a GPU computes gradients."""
    network = Subject("blip", 1, tmp_path).load()
    settings = published("blip", batch_size=2, chunk=1)
    run = TrainingRun.begin(network, settings, 1, 1, CPU)
    loss_of(network, settings, 4, CPU)().backward()  # type: ignore[no-untyped-call]
    assert any(parameter.grad is not None for parameter in run.trained)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: steps at real sizes are measured on a GPU")
@pytest.mark.parametrize("family", ["blip", "blip2"])
def test_the_published_batch_on_one_gpu(benchmark: BenchmarkFixture, family: str) -> None:
    """Forward, backward and AdamW with two images a triplet; memory includes network, optimiser and batch."""
    device, settings = torch.device("cuda"), published(family, chunk=CHUNK)
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
    benchmark.extra_info.update(batch=settings.batch_size, chunk=CHUNK, peak_mb=round(peak / 1e6))
    assert peak < GPU_BYTES
