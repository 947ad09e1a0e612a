"""Stage 2: the query side alone, against the bank."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from spn4cir.composers.encoding import report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.config.training import Train
from spn4cir.datasets.protocol import Layout, Scores
from spn4cir.datasets.texts import training_texts
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.files import atomic_file
from spn4cir.training.bank import Bank
from spn4cir.training.batches import BankSource, triplet_rows
from spn4cir.training.trainer import BEST, LAST, History, Trainer, Watch, unwatched
from spn4cir.types import Triplet


def positives(layout: Layout, generated: Path, which: str) -> tuple[Triplet, ...]:
    """The training triplets: `annotated`, `generated` (a file), or `both`."""
    annotated = layout.training_triplets() if which != "generated" else ()
    written = layout.read_generated(generated) if which != "annotated" else ()
    return (*annotated, *written)


def train_stage2(
    composer: Composer,
    layout: Layout,
    triplets: Sequence[Triplet],
    bank: Bank,
    settings: Train,
    protocol: Validate,
    *,
    seed: int,
    work: Path,
    out: Path,
    workers: int,
    device: torch.device,
    watch: Watch = unwatched,
) -> History:
    """Fine-tunes the query side; writes `best.pt` and `last.pt` in the published stage-2 container.

    Args:
        composer: stage-1 network.
        layout: the data set.
        triplets: what to train on.
        bank: features of every unique training image, of the same network.
        settings: optimiser, epochs, temperature, negatives.
        protocol: how validation scores an epoch; the galleries are encoded once, their features do not change.
        seed: decides order, texts and drawn negatives.
        work: folder of an unfinished run of the same training, or an empty one.
        out: the folder of the weights.
        workers: processes that decode.
        device: where to train.
        watch: called with the history whenever it has grown.

    Raises:
        InputError: an image is missing or broken, or there are too few triplets.
    """
    composer = composer.to(device)
    splits = layout.evaluation_splits()
    images = encode_splits(composer, splits, protocol, workers, device)

    def score(network: Composer) -> Scores:
        return evaluate(network, layout, splits, images, protocol, device).scores

    rows = triplet_rows(triplets, bank.row, "training triplets")
    report_long_texts(composer, [text for t in rows.triplets for text in training_texts(t)], "training triplets")
    source = BankSource(rows, bank, settings, seed, device, workers)
    history = Trainer(composer, source, settings, 2, score, layout.protocol.selection, work, device, watch).fit()
    for name in (BEST, LAST):
        with atomic_file(out / name) as temporary:
            shutil.copyfile(work / name, temporary)
    return history
