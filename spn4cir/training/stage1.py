"""Stage 1: both towers (or what the family trains), negatives from the batch."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from spn4cir.composers.encoding import report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.config.training import Optimisation
from spn4cir.datasets.protocol import Layout, Scores
from spn4cir.datasets.texts import training_texts
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.files import atomic_file
from spn4cir.images.preprocess import ImageFiles
from spn4cir.training.batches import ImageSource, triplet_rows
from spn4cir.training.trainer import BEST, History, Trainer, Watch, unwatched
from spn4cir.types import Triplet, UniqueImages


def train_stage1(
    composer: Composer,
    layout: Layout,
    triplets: Sequence[Triplet],
    unique: UniqueImages,
    settings: Optimisation,
    protocol: Validate,
    *,
    seed: int,
    work: Path,
    out: Path,
    workers: int,
    device: torch.device,
    watch: Watch = unwatched,
) -> History:
    """Trains from a base model and writes the weights of the best epoch, in the published stage-1 container.

    Args:
        composer: the base model's composition.
        layout: the data set by which an epoch is scored.
        triplets: what to train on.
        unique: the unique images that they name.
        settings: optimiser, epochs, temperature.
        protocol: how validation scores an epoch; every gallery is encoded anew each time.
        seed: decides order and texts.
        work: folder of an unfinished run of the same training, or an empty one.
        out: the file of the weights.
        workers: processes that decode.
        device: where to train.
        watch: called with the history whenever it has grown.

    Raises:
        InputError: an image is missing or broken, or there are too few triplets.
    """
    composer = composer.to(device)
    splits = layout.evaluation_splits()

    def score(network: Composer) -> Scores:
        images = encode_splits(network, splits, protocol, workers, device)
        return evaluate(network, layout, splits, images, protocol, device).scores

    rows = triplet_rows(triplets, unique.row, "training triplets")
    report_long_texts(composer, [text for t in rows.triplets for text in training_texts(t)], "training triplets")
    files = ImageFiles(unique.gallery.paths, composer.preprocess)
    source = ImageSource(rows, settings, seed, workers, device, files)
    history = Trainer(composer, source, settings, 1, score, layout.protocol.selection, work, device, watch).fit()
    with atomic_file(out) as temporary:
        shutil.copyfile(work / BEST, temporary)
    return history
