"""A step in chunks has the loss and the gradients of the whole batch, for every family and both stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spn4cir.composers.protocol import ImageFeatures
from spn4cir.training.batches import ImageSource
from spn4cir.training.chunks import chunked
from spn4cir.training.optimiser import TrainingRun, set_dropout
from tests.conformance.builders import Subject, images
from tests.conformance.test_features import TEXTS
from tests.conformance.test_training import ALL_CONTRASTS, ROWS, against_bank, batch
from tests.conftest import CPU
from tests.helpers.stub import optimisation, stage2

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": ALL_CONTRASTS | {"symmetric": 0.5, "swaps": 2},
    "samples": {"bank_samples": 2},
}
Loss = Callable[[Any], Tensor]
# Bytes of logits and of rows.
_SMALL = 4096


def first_loss(network: Any) -> Loss:
    """Returns the loss of stage 1, which takes the network or a view of it."""
    source = ImageSource(ROWS, optimisation(), 1, 0, CPU, None)  # type: ignore[arg-type]
    return lambda view: source.loss(view, batch(images(network)))


def second_loss(network: Any, folder: Path, **settings: Any) -> Loss:
    """Returns the loss of stage 2; each call draws the negatives of a first step."""
    return lambda view: against_bank(view, folder, **settings)()


def gradients(network: Any, stage: int, loss: Callable[[], Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """Returns the loss, and the gradients of all trained parameters, as a step of a training computes them."""
    settings = optimisation(tau=0.2, learn_tau=True) if stage == 1 else stage2(tau=0.2, learn_tau=True)
    run = TrainingRun.begin(network, settings, stage, 1, CPU)
    run.optimiser.zero_grad(set_to_none=True)
    value = loss()
    (value * scale).backward()  # type: ignore[no-untyped-call]
    found = {name: each.grad / scale for name, each in network.named_parameters() if each.grad is not None}
    return {"loss": value.detach(), **found}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Asserts equality up to the order of sums, relative to the largest gradient."""
    assert found.keys() == expected.keys()
    assert "temperature" in found
    largest = max(float(each.abs().max()) for each in expected.values())
    for name, each in expected.items():
        torch.testing.assert_close(
            found[name], each, rtol=0, atol=tolerance * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


class _Parts:
    """A network that computes in chunks once, with all activations: what a step in chunks has to equal."""

    def __init__(self, network: Any, chunk: int) -> None:
        self.network, self.chunk = network, chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        parts = [self.network.encode_image(each) for each in pixels.split(self.chunk)]
        return ImageFeatures(*map(torch.cat, zip(*parts, strict=True)))

    def compose(self, reference: Tensor, texts: list[str]) -> Tensor:
        starts = range(0, len(texts), self.chunk)
        ends = [slice(start, start + self.chunk) for start in starts]
        return torch.cat([self.network.compose(reference[own], texts[own]) for own in ends])


def test_stage_1_in_chunks(first: Subject) -> None:
    """A chunk that divides the batch of 4, and one that does not."""
    network = first.load()
    loss = first_loss(network)
    whole = gradients(network, 1, lambda: loss(network))
    for chunk in (1, 3):
        assert_equal(gradients(network, 1, lambda chunk=chunk: loss(chunked(network, chunk))), whole)


@pytest.mark.parametrize("options", OPTIONS)
def test_stage_2_in_chunks(first: Subject, tmp_path: Path, options: str) -> None:
    network = first.load()
    network.train_stage(2)
    loss = second_loss(network, tmp_path, **OPTIONS[options])
    whole = gradients(network, 2, lambda: loss(network))
    assert_equal(gradients(network, 2, lambda: loss(chunked(network, 3))), whole)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_dropout_and_half_precision_are_those_of_the_first_pass(first: Subject, dtype: torch.dtype | None) -> None:
    """The second pass repeats the draws and the number type of the first, and leaves the random state as it was.

    The loss is scaled, as for float16.
    """
    network = first.load()
    loss = first_loss(network)

    def step(view: Any) -> tuple[dict[str, Tensor], Tensor]:
        def value() -> Tensor:
            set_dropout(network, True, 7)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                return loss(view)

        found = gradients(network, 1, value, scale=1024.0)
        return found, torch.get_rng_state()

    expected, state = step(_Parts(network, 3))
    found, after = step(chunked(network, 3))
    assert_equal(found, expected, 1e-5 if dtype is None else 1e-2)
    assert torch.equal(found["loss"], expected["loss"])
    assert torch.equal(after, state)


def test_a_chunk_is_computed_twice_and_its_activations_are_not_kept(
    first: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images once if their side is frozen."""
    network = first.load()
    loss = first_loss(network)
    sizes: dict[str, list[int]] = {"encode_image": [], "compose": []}
    for name, counts in sizes.items():
        original = getattr(network, name)
        monkeypatch.setattr(network, name, lambda *parts, n=counts, f=original: n.append(len(parts[0])) or f(*parts))
    gradients(network, 1, lambda: loss(chunked(network, 3)))
    trained = network.encode_image(images(network, 1)).target.requires_grad
    assert sizes["encode_image"][:-1] == ([3, 1, 1, 3] if trained else [3, 1])
    assert sizes["compose"] == [3, 1, 1, 3]
    pixels = images(network)
    features = [*network.encode_image(pixels), network.compose(network.encode_image(pixels).reference, TEXTS)]
    limit = pixels.nbytes + 3 * sum(each.nbytes for each in features) + _SMALL
    assert kept(lambda: loss(chunked(network, 1))) < limit


def kept(compute: Callable[[], Tensor]) -> int:
    """Returns the bytes that a computation keeps for its backward pass."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(storages.values())
