"""Where a training step takes its features and negatives from: the step's own images, or the bank."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Optimisation, Train
from spn4cir.datasets.texts import training_text
from spn4cir.errors import InputError
from spn4cir.images.preprocess import ImageFiles
from spn4cir.losses import sampled_info_nce
from spn4cir.training.bank import Bank
from spn4cir.training.reference_rows import image_loader, read_ahead
from spn4cir.types import Triplet


@dataclass(frozen=True)
class TripletRows:
    """Triplets as rows of the unique images.

    Attributes:
        triplets: what they are.
        reference: row of each reference.
        target: row of each target.
    """

    triplets: tuple[Triplet, ...]
    reference: Int[Tensor, " triplets"]
    target: Int[Tensor, " triplets"]


def triplet_rows(triplets: Sequence[Triplet], row: Mapping[str, int], place: str) -> TripletRows:
    """Looks up the rows. Raises InputError for an image that the unique images do not hold."""
    for triplet in triplets:
        for name in (triplet.reference_name, triplet.target_name):
            if name not in row:
                raise InputError(
                    f"{place}: image '{name}' is not among the {len(set(row.values()))} unique training images; "
                    "run dedup again, or remove the triplet"
                )
    return TripletRows(
        tuple(triplets),
        torch.tensor([row[t.reference_name] for t in triplets]),
        torch.tensor([row[str(t.target_name)] for t in triplets]),
    )


@dataclass(frozen=True)
class Step:
    """One step's triplets.

    Attributes:
        texts: a modification text each.
        reference: row of each reference.
        target: row of each target.
    """

    texts: list[str]
    reference: Int[Tensor, " batch"]
    target: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Batch(Step):
    """One step's triplets and what was read for them.

    Attributes:
        inputs: pixels of the step's unique images, or their rows of the bank.
        input_row: the row of each of `inputs`, sorted.
    """

    inputs: Tensor
    input_row: Int[Tensor, " inputs"]

    def positions(self, rows: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Where in `inputs` each of some rows lies."""
        return torch.searchsorted(self.input_row, rows)


class Source(Protocol):
    """What the training loop asks for; the temperature is the composer's."""

    @property
    def seed(self) -> int:
        """Source of the order and of the texts."""

    def steps(self) -> int:
        """Steps an epoch; the last incomplete batch is dropped."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """An epoch's batches, in an order that the seed and the epoch alone decide."""

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """The loss of one batch."""


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator that an epoch of a seed begins with, so that a resumed run draws what the first would have."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 63))


def plan(rows: TripletRows, batch_size: int, generator: torch.Generator) -> list[Step]:
    """An epoch's steps in random order, with a random text for each triplet; the incomplete last one dropped."""
    order = torch.randperm(len(rows.triplets), generator=generator)
    draws = torch.rand(len(rows.triplets), generator=generator).tolist()
    steps = []
    for chosen in order[: len(order) // batch_size * batch_size].reshape(-1, batch_size):
        texts = [training_text(rows.triplets[i], draws[i]) for i in chosen.tolist()]
        steps.append(Step(texts, rows.reference[chosen], rows.target[chosen]))
    return steps


def _steps(rows: TripletRows, batch_size: int) -> int:
    if len(rows.triplets) < batch_size:
        raise InputError(
            f"batch_size {batch_size} exceeds the {len(rows.triplets)} training triplets; "
            "choose a smaller batch_size, or positives with more triplets"
        )
    return len(rows.triplets) // batch_size


@dataclass(frozen=True)
class ImageSource:
    """Stage 1: both features are encoded in the step, negatives are the batch's other targets."""

    rows: TripletRows
    settings: Optimisation
    seed: int
    workers: int
    device: torch.device
    files: ImageFiles

    def steps(self) -> int:
        """Steps an epoch."""
        return _steps(self.rows, self.settings.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches with their unique images, decoded ahead by worker processes."""
        steps = plan(self.rows, self.settings.batch_size, epoch_generator(self.seed, epoch))
        needed = [torch.unique(torch.cat([step.reference, step.target])) for step in steps]
        decoded = read_ahead(image_loader(self.files, needed, self.workers, self.device))
        for step, rows, pixels in zip(steps, needed, decoded, strict=True):
            images = self.files.preprocess.normalise(pixels)
            yield Batch(step.texts, step.reference, step.target, images, rows)

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """In-batch InfoNCE; gradients reach the image side."""
        features = composer.encode_image(batch.inputs.to(self.device, non_blocking=True))
        reference = features.reference[batch.positions(batch.reference).to(self.device)]
        target = features.target[batch.positions(batch.target).to(self.device)]
        queries = composer.compose(reference, batch.texts)
        labels = torch.arange(len(batch.texts), device=self.device)
        return composer.contrast(queries, target, labels, composer.temperature)


class BankSource:
    """Stage 2: reference and target features come from the bank; the query side alone is trained.

    Args:
        rows: the triplets.
        bank: features of every unique training image.
        settings: `negatives` bank or batch, `bank_samples` how many of the bank a query meets.
        seed: source of the order, the texts and the drawn negatives.
        device: where the step runs; the targets move there once.
        workers: processes that read reference rows, or decode their images, ahead of the step.
    """

    def __init__(
        self, rows: TripletRows, bank: Bank, settings: Train, seed: int, device: torch.device, workers: int = 0
    ) -> None:
        self.rows = rows
        self.bank = bank
        self.settings = settings
        self.seed = seed
        self.device = device
        self.workers = workers
        self._targets = bank.target.to(device)
        self._negatives = torch.Generator()

    def steps(self) -> int:
        """Steps an epoch."""
        return _steps(self.rows, self.settings.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches with what their unique references need; the generator of drawn negatives begins anew."""
        self._negatives = epoch_generator(self.seed + 1, epoch)
        steps = plan(self.rows, self.settings.batch_size, epoch_generator(self.seed, epoch))
        needed = [torch.unique(step.reference) for step in steps]
        read = self.bank.reference.read(needed, self.workers, self.device)
        for step, rows, inputs in zip(steps, needed, read, strict=True):
            yield Batch(step.texts, step.reference, step.target, inputs, rows)

    def _reference(self, composer: Composer, batch: Batch) -> Tensor:
        """Reference features of the batch, float32; those of an image that stands in it twice are made once."""
        inputs = batch.inputs.to(self.device, non_blocking=True)
        features = self.bank.reference.features(composer, inputs)
        return features[batch.positions(batch.reference).to(self.device)]

    def loss(self, composer: Composer, batch: Batch) -> Float[Tensor, ""]:
        """InfoNCE against the bank, a draw of it, or the batch's own rows of it."""
        reference = self._reference(composer, batch)
        target = batch.target.to(self.device)
        if self.settings.bank_samples is not None:
            queries = composer.compose(reference, batch.texts)
            # In float32, as `contrast` scores the whole bank: at tau 0.02 half precision would be 0.1 off and more.
            with torch.autocast(self.device.type, enabled=False):
                scores = composer.score(queries.float(), self._targets)
            return sampled_info_nce(scores, target, composer.temperature, self.settings.bank_samples, self._negatives)
        if self.settings.negatives == "batch":
            labels = torch.arange(len(target), device=self.device)
            return bank_loss(composer, reference, batch.texts, labels, self._targets[target], composer.temperature)
        return bank_loss(composer, reference, batch.texts, target, self._targets, composer.temperature)


def bank_loss(
    composer: Composer,
    reference: Tensor,
    texts: Sequence[str],
    target_rows: Int[Tensor, " batch"],
    targets: Tensor,
    temperature: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """The stage-2 loss of a given batch.

    Args:
        composer: the network.
        reference: reference features of the batch, (batch, ...).
        texts: one modification text each.
        target_rows: row of `targets` that each query is to find.
        targets: target features of the bank, (images, ...).
        temperature: tau.
    """
    return composer.contrast(composer.compose(reference, texts), targets, target_rows, temperature)
