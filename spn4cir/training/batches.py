"""Training batches and their losses: features and negatives from the step's own images, or from the bank."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Optimisation, Train
from spn4cir.images.preprocess import ImageFiles, read_ahead
from spn4cir.losses import sampled_info_nce
from spn4cir.parallel import ALONE, Group
from spn4cir.training.bank import Bank
from spn4cir.training.bank_targets import BankTargets
from spn4cir.training.batch_terms import batch_terms
from spn4cir.training.contrasts import Contrasts
from spn4cir.training.epoch_plan import TripletRows, epoch_generator
from spn4cir.training.reference_rows import image_loader


@dataclass(frozen=True)
class Batch:
    """The triplets of one step and the input that was read for them.

    In a group of processes, each process has all triplets of the step, and reads only the images of its part.

    Attributes:
        texts: one modification text for each triplet.
        reference: row of each reference among the unique images.
        target: row of each target among the unique images.
        inputs: pixels of the step's unique images, or their rows of the bank.
        input_row: row of each of `inputs` among the unique images, sorted.
        chosen: position of each triplet among the training triplets.
    """

    texts: list[str]
    reference: Int[Tensor, " batch"]
    target: Int[Tensor, " batch"]
    inputs: Tensor
    input_row: Int[Tensor, " inputs"]
    chosen: Int[Tensor, " batch"]

    def positions(self, rows: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The positions of the given rows in `inputs`."""
        return torch.searchsorted(self.input_row, rows)


class Source(Protocol):
    """Batches and losses for the training loop. The temperature is the composer's."""

    @property
    def seed(self) -> int:
        """Seed of the order and of the texts."""

    def steps(self) -> int:
        """Steps in an epoch."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in an order that depends only on the seed and the epoch."""

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """The loss of one batch."""


@dataclass(frozen=True)
class ImageSource:
    """Stage 1: both features are encoded in the step; the negatives are the other targets of the batch."""

    rows: TripletRows
    settings: Optimisation
    seed: int
    workers: int
    device: torch.device
    files: ImageFiles
    group: Group = ALONE

    def steps(self) -> int:
        """Steps in an epoch."""
        return self.rows.steps(self.settings.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches with their unique images, which worker processes decode ahead."""
        reference, target = self.rows.reference, self.rows.target
        plan = self.rows.plan(self.settings.batch_size, epoch_generator(self.seed, epoch))
        own = self.group.part(self.settings.batch_size)
        needed = [torch.unique(torch.cat([reference[chosen[own]], target[chosen[own]]])) for chosen, _ in plan]
        decoded = read_ahead(image_loader(self.files, needed, self.workers, self.device))
        for step, rows, pixels in zip(plan, needed, decoded, strict=True):
            images, chosen = self.files.preprocess.normalise(pixels), step[0]
            yield Batch(self.rows.texts(step), reference[chosen], target[chosen], images, rows, chosen)

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """In-batch InfoNCE; gradients reach the image side.

        The part of a process is the loss of its queries over the targets of the whole batch.
        """
        own = self.group.part(len(batch.texts))
        features = composer.encode_image(batch.inputs.to(self.device, non_blocking=True))
        reference = features.reference[batch.positions(batch.reference[own]).to(self.device)]
        target = features.target[batch.positions(batch.target[own]).to(self.device)]
        queries = composer.compose(reference, batch.texts[own])
        labels = torch.arange(len(batch.texts), device=self.device)[own]
        loss = composer.contrast(queries, self.group.gather(target), labels, composer.temperature)
        return loss / self.group.size


class BankSource:
    """Stage 2: reference and target features come from the bank; only the query side is trained.

    Args:
        rows: the triplets.
        bank: features of every unique training image.
        settings: `negatives` (bank or batch), `bank_samples`: how many images of the bank each query is compared
            with, and what the loss does beside InfoNCE.
        seed: seed of the order, the texts and the drawn negatives.
        device: where the step runs; the targets are moved there once.
        workers: processes that read reference rows, or decode their images, ahead of the step.
        group: the processes that train together.
        divided: whether each process holds only its rows of the targets.
    """

    def __init__(
        self,
        rows: TripletRows,
        bank: Bank,
        settings: Train,
        seed: int,
        device: torch.device,
        workers: int = 0,
        group: Group = ALONE,
        divided: bool = False,
    ) -> None:
        self.rows = rows
        self.bank = bank
        self.settings = settings
        self.seed = seed
        self.device = device
        self.workers = workers
        self.group = group
        self._targets = BankTargets.on(device, bank.target, group, divided)
        self._negatives = torch.Generator()
        self._contrasts = Contrasts(rows.triplets, bank, settings, self._targets.held)

    def steps(self) -> int:
        """Steps in an epoch."""
        return self.rows.steps(self.settings.batch_size, self.settings.epoch_steps)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches with the input of their unique references; restarts the generator of drawn negatives."""
        self._negatives = epoch_generator(self.seed + 1, epoch)
        reference, target = self.rows.reference, self.rows.target
        generator = epoch_generator(self.seed, epoch)
        plan = self.rows.plan(self.settings.batch_size, generator, self.settings.epoch_steps)
        read = self._read_positions()
        needed = [torch.unique(reference[chosen[read]]) for chosen, _ in plan]
        read_ahead = self.bank.reference.read(needed, self.workers, self.device)
        for step, rows, inputs in zip(plan, needed, read_ahead, strict=True):
            chosen = step[0]
            yield Batch(self.rows.texts(step), reference[chosen], target[chosen], inputs, rows, chosen)

    def _read_positions(self) -> Int[Tensor, " read"]:
        """Positions in a batch of the references that this process reads: of its part, and of the swaps of its part."""
        size = self.settings.batch_size
        own = torch.arange(size)[self.group.part(size)]
        following = (own[-1] + torch.arange(1, self.settings.swaps + 1)) % size
        return torch.cat([own, following])

    def _references(self, composer: Composer, batch: Batch) -> Callable[[Int[Tensor, " some"]], Tensor]:
        """Returns a function from positions in the batch to their reference features, in float32.

        An image that occurs twice is computed once.
        """
        inputs = batch.inputs.to(self.device, non_blocking=True)
        features = self.bank.reference.features(composer, inputs)
        return lambda chosen: features[batch.positions(batch.reference[chosen]).to(self.device)]

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """The loss against the bank or the batch, and the terms of the batch that the settings add.

        The part of a process is the loss of its queries, by their share in the mean over the batch.
        """
        own = self.group.part(len(batch.texts))
        reference = self._references(composer, batch)
        queries = composer.compose(reference(torch.arange(len(batch.texts))[own]), batch.texts[own])
        if self._targets.divided and self.settings.negatives == "bank":
            contrast = self._contrasts.of(composer, batch.chosen)
            loss = self._targets.contrast(composer, self.group.gather(queries), batch.target, contrast, self.group)
        else:
            loss = self._contrast(composer, queries, batch, own) * self._contrasts.share(batch.chosen, own)
        if self.settings.symmetric or self.settings.swaps:
            targets = self._targets.rows(batch.target[own])
            terms = batch_terms(composer, self.settings, batch, reference, queries, targets, self.group)
            loss = loss + terms / self.group.size
        return loss

    def _skip_draws(self, queries: int, scores: Tensor) -> None:
        """Draws the random numbers of queries of other processes, so that the own ones are those of one process."""
        torch.rand((queries, scores.shape[1]), generator=self._negatives)

    def _contrast(self, composer: Composer, queries: Tensor, batch: Batch, own: slice) -> Float[Tensor, ""]:
        """The mean loss of the own queries against the whole bank, a sample of it, or the batch's rows of it."""
        target = batch.target.to(self.device)
        contrast, tau = self._contrasts.of(composer, batch.chosen, own), composer.temperature
        if self.settings.bank_samples is not None:
            # In float32, as `contrast` scores the whole bank: half precision would be off by 0.1 and more at tau 0.02.
            with torch.autocast(self.device.type, enabled=False):
                scores = composer.score(queries.float(), self._targets.held)
            self._skip_draws(own.start, scores)
            count = self.settings.bank_samples
            loss = sampled_info_nce(scores, target[own], tau, count, self._negatives, contrast)
            self._skip_draws(len(target) - own.stop, scores)
            return loss
        if self.settings.negatives == "batch":
            labels = torch.arange(len(target), device=self.device)[own]
            return composer.contrast(queries, self._targets.rows(target), labels, tau, contrast)
        return composer.contrast(queries, self._targets.held, target[own], tau, contrast)
