"""Two processes train as one does: losses of the first 20 steps, and recalls of every epoch and average."""

from pathlib import Path
from typing import Any

import pytest

from tests.distributed import trainings

# Sums over a batch are added in another order; 20 steps of AdamW enlarge the difference.
LOSS = {"rel": 1e-4, "abs": 1e-5}
STEPS = 20


@pytest.mark.parametrize("name", [name for name in trainings.NAMES if "/dropout" not in name])
def test_a_training_in_two_processes_is_that_of_one(folder: Path, together: dict[str, Any], name: str) -> None:
    alone, found = trainings.train(folder, name, folder / "alone" / name), together[name]
    losses, expected = ([step["loss"] for step in history["steps"]] for history in (found, alone))
    assert len(losses) >= STEPS
    assert losses[:STEPS] == pytest.approx(expected[:STEPS], **LOSS)
    assert [epoch["score"] for epoch in found["epochs"]] == [epoch["score"] for epoch in alone["epochs"]]
    assert (found["best_epoch"], found["best_score"]) == (alone["best_epoch"], alone["best_score"])
    assert [row["score"] for row in found["averaging"]] == [row["score"] for row in alone["averaging"]]


def test_dropout_differs_between_processes(together: dict[str, Any]) -> None:
    """Other losses than with one seed for both of them."""
    apart, equal = (
        [step["loss"] for step in together[f"blip2/{name}"]["steps"]] for name in ("dropout", "dropout-equal")
    )
    assert len(apart) == len(equal) >= STEPS
    assert apart != pytest.approx(equal, **LOSS)
