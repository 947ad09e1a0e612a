"""Two processes train as one does: first gradients, losses of 20 steps, and recalls of every epoch and average."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.distributed import trainings

# Sums over a batch are added in another order; 20 steps of AdamW enlarge the difference.
LOSS = {"rel": 1e-4, "abs": 1e-5}
STEPS = 20
# Of the norm of all gradients, and of that of one parameter's, which can be a small difference of large numbers.
ALL_GRADIENTS, ONE_GRADIENT = 3e-5, 1e-3
# Products in bfloat16 are rounded to 8 bits.
BFLOAT16 = 1e-2
# Gradients below this part of the largest are rounding errors, such as those of a bias before a normalisation.
NO_GRADIENT = 1e-3
Alone = Callable[[str], dict[str, Any]]

# Without dropout, whose masks differ between processes.
EQUAL = [name for name in trainings.NAMES if "/dropout" not in name]


@pytest.mark.parametrize("name", EQUAL)
def test_a_training_in_two_processes_is_that_of_one(alone: Alone, together: dict[str, Any], name: str) -> None:
    found, one = together[name], alone(name)
    losses, expected = ([step["loss"] for step in history["steps"]] for history in (found, one))
    assert len(losses) >= STEPS
    assert losses[:STEPS] == pytest.approx(expected[:STEPS], **LOSS)
    assert [epoch["score"] for epoch in found["epochs"]] == [epoch["score"] for epoch in one["epochs"]]
    assert (found["best_epoch"], found["best_score"]) == (one["best_epoch"], one["best_score"])
    assert [row["score"] for row in found["averaging"]] == [row["score"] for row in one["averaging"]]


@pytest.mark.parametrize("name", EQUAL)
def test_the_optimiser_gets_the_gradients_of_one_process(alone: Alone, together: dict[str, Any], name: str) -> None:
    """AdamW divides a common factor of all gradients away, so that losses do not show it."""
    found, expected = together[name]["gradients"], alone(name)["gradients"]
    assert len(found) == len(expected) > 0
    norms = torch.stack([each.norm() for each in expected])
    errors = torch.stack([(one - two).norm() for one, two in zip(expected, found, strict=True)])
    rounded = BFLOAT16 if name.endswith("/bfloat16") else 0
    assert errors.norm() <= max(ALL_GRADIENTS, rounded) * norms.norm()
    assert (errors <= max(ONE_GRADIENT, rounded) * norms.clamp(min=NO_GRADIENT * norms.max())).all()


def test_dropout_differs_between_processes(together: dict[str, Any]) -> None:
    """Other losses than with one seed for both of them."""
    apart, equal = (
        [step["loss"] for step in together[f"blip2/{name}"]["steps"]] for name in ("dropout", "dropout-equal")
    )
    assert len(apart) == len(equal) >= STEPS
    assert apart != pytest.approx(equal, **LOSS)
