"""A short training of stage 2 without a network, for tests of processes, which start it many times.

The libraries of the networks take longer to import than the training takes.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from spn4cir.config.params import Validate
from spn4cir.config.training import BankSettings
from spn4cir.datasets import open_layout
from spn4cir.parallel import ALONE, Group
from spn4cir.positives.dedup import deduplicate
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.stage2 import train_stage2
from spn4cir.types import UniqueImages
from tests.helpers.layouts import write_cirr
from tests.helpers.stub import StubComposer, stage2

BATCH = 8
PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=8, sheet_queries=1)
BANK = BankSettings(dtype="float32", batch_size=8, reference="stored", images="annotated")
_CPU = torch.device("cpu")


def prepare(folder: Path) -> None:
    """Draws the images and writes the bank."""
    write_cirr(folder / "cirr", train_groups=4)
    (folder / "building").mkdir()
    build_bank(StubComposer(), unique_images(folder), BANK, folder / "bank", folder / "building", 0, _CPU)


def train(folder: Path, work: Path, group: Group = ALONE) -> dict[str, Any]:
    """Trains in a work folder and returns the history."""
    composer = StubComposer()
    bank = open_bank(folder / "bank", composer, unique_images(folder), BANK, mapped=group.size > 1)
    settings = stage2(batch_size=BATCH, epochs=12, epoch_steps=3, ema=0.9, learn_tau=True)
    return asdict(train_stage2(composer, bank, settings, training_setup(folder, work, group), work / "out"))


def training_setup(
    folder: Path, work: Path, group: Group, shard_bank: Literal["always", "never"] = "never"
) -> TrainingSetup:
    """The data and the processes of a training; every third triplet counts as generated."""
    work.mkdir(parents=True, exist_ok=True)
    layout = open_layout("cirr", folder / "cirr", "error")
    triplets = [replace(each, generated=row % 3 == 0) for row, each in enumerate(layout.training_triplets())]
    return TrainingSetup(layout, triplets, PROTOCOL, 1, work, 0, _CPU, group=group, shard_bank=shard_bank)


def unique_images(folder: Path) -> UniqueImages:
    """The unique images of the training triplets."""
    return deduplicate(open_layout("cirr", folder / "cirr", "error").training_gallery(), 0)
