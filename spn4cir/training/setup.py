"""Inputs that both training stages share: triplets, validation, seed, work folder and device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from spn4cir.composers.encoding import EncodedGallery, report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.config.training import Optimisation
from spn4cir.datasets.protocol import Layout, Scores
from spn4cir.datasets.texts import training_texts
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.stored_gallery import require_queries
from spn4cir.parallel import ALONE, Group
from spn4cir.training.batches import Source
from spn4cir.training.epoch_plan import TripletRows, triplet_rows
from spn4cir.training.trainer import History, Score, Trainer, Watch, unwatched
from spn4cir.types import EvaluationSplit, Gallery, Triplet

_PLACE = "training triplets"


def no_images() -> EncodedGallery:
    """A gallery without images, for a training that scores nothing in this process."""
    return EncodedGallery(Gallery((), ()), torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.long))


@dataclass(frozen=True)
class TrainingSetup:
    """Inputs that both training stages share; the network, its settings and its features are separate arguments.

    Attributes:
        layout: data set whose validation queries score each epoch.
        triplets: triplets to train on.
        protocol: evaluation protocol of the validation scores.
        seed: decides the order, the texts and the drawn negatives.
        work: folder of an unfinished run of the same training, or an empty one.
        workers: processes that decode images.
        device: where the network is trained.
        watch: called with the history whenever it has grown.
        group: the processes that train together.
        stored: stored features of the validation images; None: `encode` encodes them.
        shard_bank: the setting `machine.shard_bank`: whether the processes divide the bank's targets.
    """

    layout: Layout
    triplets: Sequence[Triplet]
    protocol: Validate
    seed: int
    work: Path
    workers: int
    device: torch.device
    watch: Watch = unwatched
    group: Group = ALONE
    stored: Path | None = None
    shard_bank: Literal["auto", "always", "never"] = "never"

    @cached_property
    def splits(self) -> tuple[EvaluationSplit, ...]:
        """The validation queries and their galleries."""
        return self.layout.evaluation_splits()

    def rows(self, composer: Composer, row: Mapping[str, int]) -> TripletRows:
        """The triplets as rows of the unique images; reports texts that the network truncates.

        Args:
            composer: the network to train.
            row: row of each unique image, by name.

        Raises:
            InputError: an image is not among the unique images.
        """
        rows = triplet_rows(self.triplets, row, _PLACE)
        report_long_texts(composer, (text for triplet in rows.triplets for text in training_texts(triplet)), _PLACE)
        return rows

    def encode(self, composer: Composer) -> EncodedGallery:
        """Features of every validation image: the stored ones if they are of this network, else encoded."""
        return encode_splits(composer, self.splits, self.protocol, self.workers, self.device, self.stored)

    def score(self, composer: Composer, images: EncodedGallery) -> Scores:
        """Validation scores of the network, in percent."""
        return evaluate(composer, self.layout, self.splits, images, self.protocol, self.device).scores

    def fit(self, composer: Composer, source: Source, settings: Optimisation, stage: int, score: Score) -> History:
        """Trains the network; see `Trainer.fit`.

        The validation queries are read before the first epoch, so that an error in them does not waste it.
        """
        require_queries(self.splits)
        selection = self.layout.protocol.selection
        return Trainer(
            composer, source, settings, stage, score, selection, self.work, self.device, self.watch, self.group
        ).fit()
