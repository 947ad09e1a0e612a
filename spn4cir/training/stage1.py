"""Stage 1: trains the parameters that the family trains in this stage, with in-batch negatives."""

from pathlib import Path

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Optimisation
from spn4cir.files import copy_file
from spn4cir.images.preprocess import ImageFiles
from spn4cir.training.batches import ImageSource
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.trainer import BEST, History
from spn4cir.types import UniqueImages


def train_stage1(
    composer: Composer, unique: UniqueImages, settings: Optimisation, setup: TrainingSetup, out: Path
) -> History:
    """Trains from a base model and writes the weights of the best epoch, in the published stage-1 container.

    Every epoch encodes the validation images again, because training changes their features.

    Args:
        composer: the base model's composition.
        unique: the unique images of the triplets.
        settings: optimiser, epochs, temperature.
        setup: triplets, validation, seed, work folder and device.
        out: file of the weights.

    Raises:
        InputError: an image is missing or broken, or there are too few triplets.
    """
    composer = composer.to(setup.device)
    rows = setup.rows(composer, unique.row)
    files = ImageFiles(unique.gallery.paths, composer.preprocess)
    source = ImageSource(rows, settings, setup.seed, setup.workers, setup.device, files, setup.group)
    history = setup.fit(composer, source, settings, 1, lambda network: setup.score(network, setup.encode(network)))
    if setup.group.first:
        copy_file(setup.work / BEST, out)
    return history
