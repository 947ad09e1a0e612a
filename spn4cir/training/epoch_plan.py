"""The plan of an epoch: the triplets of each step, their texts, and the rows of their images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.datasets.texts import training_text
from spn4cir.errors import InputError
from spn4cir.types import Triplet

# The triplets of a step, by position, and for each the draw in [0, 1) that chooses its text.
Step = tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class TripletRows:
    """Training triplets, with the rows of their images among the unique images.

    Attributes:
        triplets: the triplets.
        reference: row of each reference.
        target: row of each target.
    """

    triplets: Sequence[Triplet]
    reference: Int[Tensor, " triplets"]
    target: Int[Tensor, " triplets"]

    def steps(self, batch_size: int, epoch_steps: int | None = None) -> int:
        """Steps in an epoch: `epoch_steps`, or one pass over the triplets without an incomplete batch.

        Raises InputError when there are fewer triplets than a batch holds.
        """
        if len(self.triplets) < batch_size:
            raise InputError(
                f"batch_size {batch_size} exceeds the {len(self.triplets):,} training triplets; "
                "choose a smaller batch_size, or positives with more triplets"
            )
        return epoch_steps or len(self.triplets) // batch_size

    def plan(self, batch_size: int, generator: torch.Generator, epoch_steps: int | None = None) -> list[Step]:
        """Draws an epoch: the triplets of each step, by position, and what chooses a text of each of them.

        One pass over the triplets follows another until there are enough steps. Each has its own order and texts, and
        its last incomplete batch is dropped.
        """
        steps = self.steps(batch_size, epoch_steps)
        plan: list[Step] = []
        while len(plan) < steps:
            plan.extend(self._pass(batch_size, generator))
        return plan[:steps]

    def _pass(self, batch_size: int, generator: torch.Generator) -> Iterator[Step]:
        """Draws one pass over the triplets."""
        order = torch.randperm(len(self.triplets), generator=generator)
        draws = torch.rand(len(self.triplets), generator=generator)
        for chosen in order[: len(order) // batch_size * batch_size].reshape(-1, batch_size):
            yield chosen, draws[chosen]

    def texts(self, step: Step) -> list[str]:
        """Returns the text of each triplet of a step."""
        chosen, draws = step
        triplets = (self.triplets[i] for i in chosen.tolist())
        return [training_text(each, draw) for each, draw in zip(triplets, draws.tolist(), strict=True)]


def triplet_rows(triplets: Sequence[Triplet], row: Mapping[str, int], place: str) -> TripletRows:
    """Looks up the rows of the triplets' images.

    Args:
        triplets: the triplets.
        row: row of each image among the unique images, by name.
        place: what the triplets are, for messages.

    Raises:
        InputError: an image is not among the unique images.
    """
    found = torch.empty((2, len(triplets)), dtype=torch.long)
    rows = found.numpy()
    for position, triplet in enumerate(triplets):
        for part, name in enumerate((triplet.reference_name, str(triplet.target_name))):
            if name not in row:
                raise InputError(
                    f"{place}: image '{name}' is not among the {len(set(row.values())):,} unique training images; "
                    "run dedup again, or remove the triplet"
                )
            rows[part, position] = row[name]
    return TripletRows(triplets, *found)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator whose state depends only on the seed and the epoch, so that a resumed run repeats the same draws."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 63))
