"""Settings of stage 2 beyond the published recipe, for every family: they train, they count, and a run resumes."""

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spn4cir.checkpoints.published import load_composer
from spn4cir.training.bank import Bank
from spn4cir.training.batches import BankSource
from spn4cir.training.epoch_plan import triplet_rows
from spn4cir.training.reference_rows import StoredReferences
from spn4cir.training.trainer import History, Trainer
from spn4cir.types import Triplet
from tests.conformance.builders import Subject, builder, images
from tests.conformance.test_features import TEXTS
from tests.conftest import CPU
from tests.helpers.stub import stage2

NAMES = [f"i{row}" for row in range(6)]
# Six triplets over six images; the last two have one target.
TRIPLETS = [Triplet(name, (TEXTS[row % len(TEXTS)],), NAMES[min(row + 1, 5)]) for row, name in enumerate(NAMES)]
BASE: dict[str, Any] = {"lr": 1e-2, "tau": 0.2, "learn_tau": True, "batch_size": 3, "epochs": 2, "dropout": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "epoch_steps": {"epoch_steps": 3},
    "ema": {"ema": 0.9},
    "averaging": {"averaging": [0.5]},
    "symmetric": {"symmetric": 0.5},
    "swaps": {"swaps": 2},
    "warmup_cosine": {"schedule": {"name": "warmup_cosine", "warmup": 0.5}},
}


class Killed(Exception):
    """Ends a run in an evaluation, as a kill would."""


def scores(folder: Path, kill: int = 0) -> Any:
    """A score that falls with each evaluation in the folder, so that the first epoch is the best; may kill the run.

    Averages of weights are scored higher than all epochs.
    """
    count = folder / "evaluations"

    def score(composer: Any) -> dict[str, float]:
        done = int(count.read_text()) if count.exists() else 0
        if kill == done + 1:
            raise Killed
        count.write_text(str(done + 1))
        return {"score": done if done >= BASE["epochs"] else -float(done)}

    return score


def run(subject: Subject, folder: Path, kill: int = 0, **changes: Any) -> History:
    """Trains the family's network two epochs on six images, and writes the weights to the folder."""
    folder.mkdir(exist_ok=True)
    network = subject.load()
    network.train_stage(2)
    with torch.no_grad():
        reference, target = network.encode_image(images(network, len(NAMES)))
    np.save(folder / "reference.npy", reference.numpy())
    row = {name: number for number, name in enumerate(NAMES)}
    bank = Bank(StoredReferences(folder / "reference.npy", len(NAMES)), target, row)
    settings = stage2(**(BASE | changes))
    source = BankSource(triplet_rows(TRIPLETS, row, "triplets"), bank, settings, 1, CPU)
    return Trainer(network, source, settings, 2, scores(folder, kill), "score", folder, CPU).fit()


def weights(subject: Subject, folder: Path) -> dict[str, Tensor]:
    """The best weights as they are read from the written file."""
    path = folder / "best.pt"
    found: dict[str, Tensor] = load_composer(path, subject.family, builder(subject.family).options).state_dict()
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def plain(first: Subject, tmp_path_factory: pytest.TempPathFactory) -> tuple[History, dict[str, Tensor]]:
    """The history and the best weights without a setting."""
    folder = tmp_path_factory.mktemp("plain")
    return run(first, folder), weights(first, folder)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_changes_the_weights_and_resumes_with_the_same_bits(
    first: Subject, plain: tuple[History, dict[str, Tensor]], tmp_path: Path, name: str
) -> None:
    """The weights are finite and other ones than without the setting; a killed run ends with equal files."""
    whole = run(first, tmp_path / "on", **SETTINGS[name])
    found = weights(first, tmp_path / "on")
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    history, without = plain
    assert not same(found, without)
    assert whole != history
    assert all(isfinite(value) for row in whole.epochs for value in row.values())
    with pytest.raises(Killed):
        run(first, tmp_path / "killed", kill=2, **SETTINGS[name])
    assert run(first, tmp_path / "killed", **SETTINGS[name]) == whole
    assert same(weights(first, tmp_path / "killed"), found)


def test_both_terms_are_added_to_the_plain_loss(first: Subject, tmp_path: Path) -> None:
    """The first loss with both is the plain one plus each of them, and each is positive."""
    terms: list[dict[str, Any]] = [{}, {"symmetric": 0.5}, {"swaps": 2}, {"symmetric": 0.5, "swaps": 2}]
    plain, symmetric, swaps, both = (
        run(first, tmp_path / str(place), dropout=False, **changes).steps[0]["loss"]
        for place, changes in enumerate(terms)
    )
    assert min(symmetric, swaps) > plain
    assert both - plain == pytest.approx(symmetric - plain + swaps - plain, abs=1e-4)
