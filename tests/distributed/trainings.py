"""Short trainings of tiny networks of every family, in one process or in several.

As a module (`python -m tests.distributed.trainings FOLDER NAME...`), one of the processes of a group: runs trainings
one after another and writes their histories and first gradients to `FOLDER/results.pt`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spn4cir.parallel import ALONE, Group
from spn4cir.parallel.worker import joined
from spn4cir.training import trainer
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.stage2 import train_stage2
from tests.conformance.builders import Subject
from tests.conformance.test_training import ALL_CONTRASTS, CONTRASTS
from tests.conftest import CPU
from tests.distributed.small_training import BANK, BATCH, training_setup, unique_images
from tests.helpers.layouts import write_cirr
from tests.helpers.stub import optimisation, stage2

FAMILIES = ("clip", "tgcir", "blip", "blip2", "zs", "zs_cc")
_COMMON: dict[str, Any] = {"batch_size": BATCH, "tau": 0.1, "lr": 1e-3, "learn_tau": True}
# 24 triplets: three steps in an epoch of stage 1.
_STAGE1 = _COMMON | {"epochs": 7, "lr": 1e-4}
_STAGE2 = _COMMON | {"epochs": 2, "epoch_steps": 10}
_TERMS = {"symmetric": 0.5, "swaps": 3}
# Settings of stage 2 by the name of a training.
OPTIONS: dict[str, dict[str, Any]] = {
    **CONTRASTS,
    "all": {**ALL_CONTRASTS, **_TERMS},
    "all-batch": {**ALL_CONTRASTS, **_TERMS, "negatives": "batch"},
    "all-samples": {**ALL_CONTRASTS, **_TERMS, "bank_samples": 5},
    "batch": {"negatives": "batch"},
    "samples": {"bank_samples": 5},
    "symmetric": {"symmetric": 0.5},
    "swaps": {"swaps": 3},
    "ema": {"ema": 0.9},
    "averaging": {"averaging": [0.5]},
    "bfloat16": {"precision": "bfloat16"},
    "warmup": {"schedule": {"name": "warmup_cosine", "warmup": 0.3}},
}
# Settings of stage 2 with a divided bank.
DIVIDED: dict[str, dict[str, Any]] = {
    "divided": {},
    "divided-all": {"generated_loss": "robust", "generated_weight": 0.3, "hardness": 0.5, **_TERMS},
    "divided-batch": {"negatives": "batch", "symmetric": 0.5},
}
# With other seeds in each process, as published, and with one seed for both.
_DROPOUT: dict[str, dict[str, Any]] = {"dropout": {"dropout": True}, "dropout-equal": {"dropout": True}}
NAMES = (
    *(f"{family}/divided" for family in FAMILIES),
    *(f"{family}/{option}" for family in ("clip", "blip2") for option in DIVIDED if option != "divided"),
    *(f"{family}/{stage}" for family in FAMILIES for stage in ("stage1", "stage2")),
    *(f"clip/{option}" for option in OPTIONS),
    *(f"blip2/{option}" for option in ("all", "all-batch", "all-samples", "dropout", "dropout-equal")),
)


def prepare(folder: Path) -> None:
    """Draws the images, and writes the networks and their banks."""
    write_cirr(folder / "cirr", train_groups=4)
    for family in FAMILIES:
        composer = _subject(folder, family).load()
        work = folder / "building" / family
        work.mkdir(parents=True)
        build_bank(composer, unique_images(folder), BANK, folder / "banks" / family, work, 0, CPU)


def train(folder: Path, name: str, work: Path, group: Group = ALONE) -> dict[str, Any]:
    """Trains in a work folder and returns the history. `name` is FAMILY/stage1, FAMILY/stage2 or FAMILY/OPTION."""
    family, option = name.split("/")
    setup = training_setup(folder, work, group, "always" if option in DIVIDED else "never")
    composer, unique = _subject(folder, family).load(), unique_images(folder)
    if option == "stage1":
        return asdict(train_stage1(composer, unique, optimisation(**_STAGE1), setup, work / "stage1.pt"))
    bank = open_bank(folder / "banks" / family, composer, unique, BANK, mapped=group.size > 1)
    settings = stage2(**(_STAGE2 | (OPTIONS | DIVIDED | _DROPOUT).get(option, {})))
    seeds_apart = 0 if option == "dropout-equal" else trainer._SEEDS_APART
    with patch.object(trainer, "_SEEDS_APART", seeds_apart):
        return asdict(train_stage2(composer, bank, settings, setup, work / "out"))


@contextmanager
def first_gradients() -> Iterator[list[Tensor]]:
    """Yields a list that the first step of an optimiser fills with the gradients that it gets."""
    found: list[Tensor] = []

    def keep(optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        parameters = [each for group in optimiser.param_groups for each in group["params"]]
        if not found:
            found.extend(each.grad.clone() for each in parameters if each.grad is not None)

    hook = register_optimizer_step_pre_hook(keep)
    try:
        yield found
    finally:
        hook.remove()


def train_with_gradients(folder: Path, name: str, work: Path, group: Group = ALONE) -> dict[str, Any]:
    """Trains as `train` does, and returns the gradients of the first step beside the history."""
    with first_gradients() as gradients:
        return {**train(folder, name, work, group), "gradients": gradients}


def _subject(folder: Path, family: str) -> Subject:
    (folder / "networks").mkdir(exist_ok=True)
    return Subject(family, 1, folder / "networks")


def main(folder: Path, names: list[str]) -> None:
    with joined("cpu") as group:
        found = {name: train_with_gradients(folder, name, folder / "together" / name, group) for name in names}
        if group.first:
            torch.save(found, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
