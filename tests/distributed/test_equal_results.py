"""Two processes train as one does: losses of the first 20 steps, recalls and weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed import trainings

# Sums over a batch are added in another order; 20 steps of AdamW enlarge the difference.
LOSS = {"rel": 1e-4, "abs": 1e-5}
STEPS = 20


@pytest.mark.parametrize("name", [name for name in trainings.NAMES if not name.endswith("/dropout")])
def test_a_training_in_two_processes_is_that_of_one(folder: Path, together: dict[str, Any], name: str) -> None:
    alone, found = trainings.train(folder, name, folder / "alone" / name), together[name]
    losses, expected = ([step["loss"] for step in history["steps"]] for history in (found, alone))
    assert len(losses) >= STEPS
    assert losses[:STEPS] == pytest.approx(expected[:STEPS], **LOSS)
    assert [epoch["score"] for epoch in found["epochs"]] == [epoch["score"] for epoch in alone["epochs"]]
    assert (found["best_epoch"], found["best_score"]) == (alone["best_epoch"], alone["best_score"])
    assert len(found["averaging"]) == len(alone["averaging"])


def test_dropout_differs_between_processes_and_still_trains(together: dict[str, Any]) -> None:
    losses = [step["loss"] for step in together["blip2/dropout"]["steps"]]
    assert all(torch.isfinite(torch.tensor(losses)))
