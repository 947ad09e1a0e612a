"""Stage 2: trains only the query side, against the bank."""

from pathlib import Path

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Train
from spn4cir.files import copy_file
from spn4cir.training.bank import Bank
from spn4cir.training.bank_targets import divides_bank
from spn4cir.training.batches import BankSource
from spn4cir.training.setup import TrainingSetup, no_images
from spn4cir.training.trainer import BEST, LAST, History


def train_stage2(composer: Composer, bank: Bank, settings: Train, setup: TrainingSetup, out: Path) -> History:
    """Fine-tunes the query side and writes `best.pt` and `last.pt`, in the published stage-2 container.

    The features of the validation images are read or encoded once, because training leaves them unchanged.

    Args:
        composer: stage-1 network.
        bank: features of every unique training image, encoded by the same network.
        settings: optimiser, epochs, temperature, negatives.
        setup: triplets, validation, seed, work folder and device.
        out: folder of the weights.

    Raises:
        InputError: an image is missing or broken, there are too few triplets, or the processes cannot divide the bank.
    """
    composer = composer.to(setup.device)
    rows = setup.rows(composer, bank.row)
    images = setup.encode(composer) if setup.group.first else no_images()
    divided = divides_bank(setup.shard_bank, bank.target, settings, setup.group, setup.device)
    if setup.group.first and setup.group.size > 1:
        held, count = "only its part" if divided else "all", setup.group.size
        print(f"machine.shard_bank: each of {count} processes holds {held} of the bank's targets", flush=True)
    source = BankSource(rows, bank, settings, setup.seed, setup.device, setup.workers, setup.group, divided)
    history = setup.fit(composer, source, settings, 2, lambda network: setup.score(network, images))
    for name in (BEST, LAST) if setup.group.first else ():
        copy_file(setup.work / name, out / name)
    return history
