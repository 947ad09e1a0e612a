"""The weights that each stage trains, and that the bank's loss equals the batch's if both contain the same images."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spn4cir.config.training import Optimisation
from spn4cir.images.preprocess import ImageFiles
from spn4cir.training.bank import Bank
from spn4cir.training.batches import BankSource, Batch, ImageSource
from spn4cir.training.epoch_plan import triplet_rows
from spn4cir.training.optimiser import TrainingRun, set_dropout
from spn4cir.training.reference_rows import StoredReferences
from spn4cir.types import Triplet
from tests.conformance.builders import Subject, images
from tests.conformance.test_features import TEXTS
from tests.conftest import CPU
from tests.helpers.stub import optimisation, stage2

STEPS = 3
NAMES = [f"i{row}" for row in range(4)]
ROWS = triplet_rows(
    [
        Triplet(name, (text,), NAMES[row - 3], generated=row > 1)
        for row, (name, text) in enumerate(zip(NAMES, TEXTS, strict=True))
    ],
    {name: row for row, name in enumerate(NAMES)},
    "triplets",
)
# With 4 images, the quantile excludes 2 others than the target, or 1 if the other is the reference; above -0.99, all.
CONTRASTS: dict[str, dict[str, Any]] = {
    "robust": {"generated_loss": "robust"},
    "weight": {"generated_weight": 0.3},
    "hardness": {"hardness": 0.5},
    "quantile": {"false_negatives": {"quantile": 0.3}},
    "above": {"false_negatives": {"above": -0.99}},
}
ALL_CONTRASTS = {key: value for each in CONTRASTS.values() for key, value in each.items()} | CONTRASTS["quantile"]


def batch(inputs: Tensor) -> Batch:
    """A batch of all four triplets: each image is a reference, and the target of the image before it."""
    return Batch(TEXTS, ROWS.reference, ROWS.target, inputs, torch.arange(4), torch.arange(4))


def in_batch(network: Any, settings: Optimisation) -> Callable[[], Tensor]:
    """Returns the loss of stage 1."""
    source = ImageSource(ROWS, settings, 1, 0, CPU, ImageFiles((), network.preprocess))
    return lambda: source.loss(network, batch(images(network)))


def against_bank(network: Any, folder: Path, **settings: Any) -> Callable[[], Tensor]:
    """Returns the loss of stage 2, with a bank of the same four images."""
    with torch.no_grad():
        reference, target = network.encode_image(images(network))
    np.save(folder / "reference.npy", reference.numpy())
    bank = Bank(StoredReferences(folder / "reference.npy", 4), target, {name: row for row, name in enumerate(NAMES)})
    source = BankSource(ROWS, bank, stage2(**settings), 1, CPU)
    return lambda: source.loss(network, batch(reference))


def train(network: Any, run: TrainingRun, loss: Callable[[], Tensor]) -> None:
    """Trains a few steps, with the dropout of the family, if any."""
    for seed in range(STEPS):
        set_dropout(network, True, seed)
        run.optimiser.zero_grad(set_to_none=True)
        run.step(loss())
    set_dropout(network, False, 0)


def copies(tensors: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors}


def moved(before: dict[str, Tensor], after: Any) -> set[str]:
    return {name for name, tensor in after if not torch.equal(tensor, before[name])}


def places(tensors: Iterable[tuple[str, Tensor]]) -> set[int]:
    return {tensor.data_ptr() for _, tensor in tensors}


def contains(parameters: Sequence[Tensor], wanted: Tensor) -> bool:
    return any(parameter is wanted for parameter in parameters)


def test_the_frozen_tensors_decide_the_features(subject: Subject) -> None:
    """Image features depend on exactly the frozen tensors, by which a bank is identified."""
    network = subject.load()
    network.train_stage(2)
    frozen = list(network.frozen_tensors())
    others = [tensor for tensor in network.state_dict().values() if tensor.data_ptr() not in places(frozen)]
    with torch.no_grad():
        before = network.encode_image(images(network))
        for tensor in others:
            tensor.add_(1)
        assert all(torch.equal(*pair) for pair in zip(before, network.encode_image(images(network)), strict=True))
        for _, tensor in frozen:
            tensor.add_(torch.linspace(0, 2, tensor.numel()).view_as(tensor).to(tensor.dtype))
        assert not any(torch.equal(*pair) for pair in zip(before, network.encode_image(images(network)), strict=True))


@pytest.mark.parametrize(
    ("learned", "contrast"),
    [(False, {}), (True, {}), *((True, contrast) for contrast in CONTRASTS.values())],
    ids=["plain", "learned", *CONTRASTS],
)
def test_stage_2_moves_what_it_says_and_no_image_feature(
    subject: Subject, tmp_path: Path, learned: bool, contrast: dict[str, Any]
) -> None:
    """The frozen side, buffers included, and its image features stay bit for bit; queries change."""
    network = subject.load()
    settings = stage2(lr=1e-2, tau=0.2, learn_tau=learned)
    run = TrainingRun.begin(network, settings, 2, 1, CPU)
    loss = against_bank(network, tmp_path, **contrast)
    frozen, state = copies(network.frozen_tensors()), copies(network.state_dict().items())
    parameters = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
    trained = {
        name for name, tensor in network.named_parameters(remove_duplicate=False) if contains(parameters, tensor)
    }
    pixels = images(network, seed=7)
    with torch.no_grad():
        before = network.encode_image(pixels)
        query = network.compose(before.reference, TEXTS)
    train(network, run, loss)
    with torch.no_grad():
        after = network.encode_image(pixels)
    assert not places(network.frozen_tensors()) & {tensor.data_ptr() for tensor in parameters}
    assert moved(frozen, network.frozen_tensors()) == set()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(network.compose(before.reference, TEXTS), query)
    changed = moved(state, network.state_dict().items())
    assert changed <= trained
    assert ("temperature" in changed) == learned


def test_stage_1_moves_what_it_says(first: Subject) -> None:
    """Nearly all trained weights change: only those that no loss reaches may stay (CLIP's own temperature)."""
    network = first.load()
    settings = optimisation(lr=1e-2, tau=0.2)
    run = TrainingRun.begin(network, settings, 1, 1, CPU)
    state = copies(network.state_dict().items())
    trained = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in trained}) == len(trained)
    train(network, run, in_batch(network, settings))
    parameters = dict(network.named_parameters(remove_duplicate=False))
    wanted = {name for name, parameter in parameters.items() if contains(trained, parameter)}
    changed = moved(state, network.state_dict().items())
    assert changed <= wanted
    assert sum(parameters[name].numel() for name in wanted - changed) <= 1
    assert float(network.temperature) == pytest.approx(0.2)


def test_stage_1_learns_its_temperature_where_asked(first: Subject) -> None:
    network = first.load()
    settings = optimisation(lr=1e-2, tau=0.2, learn_tau=True)
    run = TrainingRun.begin(network, settings, 1, 1, CPU)
    train(network, run, in_batch(network, settings))
    assert abs(float(network.temperature.detach()) - 0.2) > 1e-3


def test_a_bank_as_large_as_the_batch_is_the_batch(subject: Subject, tmp_path: Path) -> None:
    """Loss and gradients are equal, for the weights that stage 2 trains and for the temperature."""
    network = subject.load()
    settings = optimisation(tau=0.2, learn_tau=True)
    run = TrainingRun.begin(network, settings, 2, 1, CPU)
    asking = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
    found = []
    for loss in (in_batch(network, settings)(), against_bank(network, tmp_path)()):
        gradients = torch.autograd.grad(loss, asking, allow_unused=True)
        found.append([loss.detach(), *(gradient for gradient in gradients if gradient is not None)])
    assert len(found[0]) == len(found[1]) > 2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("stage", [1, 2])
def test_the_loss_under_autocast(first: Subject, tmp_path: Path, stage: int) -> None:
    """In bfloat16 the loss is float32 and close to that of float32, and trained parameters have gradients."""
    network = first.load()
    settings = optimisation(tau=0.2)
    run = TrainingRun.begin(network, settings, stage, 1, CPU)
    loss = in_batch(network, settings) if stage == 1 else against_bank(network, tmp_path)
    expected = loss().detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss()
    run.step(half)
    assert half.dtype == torch.float32
    assert abs(float(half.detach() - expected)) < 0.1
    gradients = [each.grad for group in run.optimiser.param_groups for each in group["params"] if each.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("contrast", [{}, ALL_CONTRASTS], ids=["plain", "all"])
def test_a_resumed_run_goes_on_with_the_same_bits(subject: Subject, tmp_path: Path, contrast: dict[str, Any]) -> None:
    """A network read from the file again restores weights and optimiser."""
    networks = [subject.load(), subject.load()]
    settings = stage2(lr=1e-2, tau=0.2, learn_tau=True)
    whole, resumed = (TrainingRun.begin(network, settings, 2, 1, CPU) for network in networks)
    loss = against_bank(networks[0], tmp_path, **contrast)
    train(networks[0], whole, loss)
    torch.save(whole.state(), tmp_path / "state.pt")
    resumed.resume(torch.load(tmp_path / "state.pt", weights_only=True))
    train(networks[0], whole, loss)
    train(networks[1], resumed, against_bank(networks[1], tmp_path, **contrast))
    assert moved(copies(networks[0].state_dict().items()), networks[1].state_dict().items()) == set()


@pytest.mark.parametrize("negatives", [{}, {"bank_samples": 2}, {"negatives": "batch"}], ids=str)
@pytest.mark.parametrize("name", CONTRASTS)
def test_each_setting_changes_the_loss(subject: Subject, tmp_path: Path, name: str, negatives: dict[str, Any]) -> None:
    """The loss and the gradients of the weights are finite and differ from those of InfoNCE."""
    network = subject.load()
    run = TrainingRun.begin(network, stage2(tau=0.2), 2, 1, CPU)
    asking = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
    found = []
    for contrast in ({}, CONTRASTS[name]):
        loss = against_bank(network, tmp_path, **negatives, **contrast)()
        gradients = torch.autograd.grad(loss, asking, allow_unused=True)
        found.append(torch.cat([loss.detach()[None], *(each.flatten() for each in gradients if each is not None)]))
    assert bool(found[1].isfinite().all())
    assert not torch.allclose(found[0][0], found[1][0], rtol=1e-4)
    assert not torch.allclose(found[0][1:], found[1][1:], rtol=1e-4)
