"""Queries composed from training triplets with reference features of the bank; no image is decoded for stored rows."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.datasets.texts import evaluation_text, training_text
from spn4cir.device import memory_errors
from spn4cir.progress import progress
from spn4cir.training.bank import Bank
from spn4cir.training.epoch_plan import triplet_rows
from spn4cir.types import Triplet

_LABEL = "compose training queries"


def drawn_triplets(triplets: Sequence[Triplet], count: int | None, seed: int) -> list[Triplet]:
    """Draws `count` triplets without replacement, in their order; all of them if `count` is None or too large."""
    order = torch.randperm(len(triplets), generator=torch.Generator().manual_seed(seed))
    return [triplets[position] for position in order[:count].sort().values.tolist()]


def query_texts(triplets: Sequence[Triplet], capitalise: bool, seed: int) -> list[str]:
    """The text of each training query: the text of a validation query, or a drawn one of a generated triplet's texts.

    Args:
        triplets: the triplets.
        capitalise: see `evaluation_text`.
        seed: seed of the draws.
    """
    draws = torch.rand(len(triplets), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        training_text(triplet, draw) if triplet.generated else evaluation_text(triplet.captions, capitalise)
        for triplet, draw in zip(triplets, draws, strict=True)
    ]


def compose_bank_queries(
    composer: Composer,
    bank: Bank,
    triplets: Sequence[Triplet],
    texts: Sequence[str],
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Iterator[Float[Tensor, "batch dim"]]:
    """Yields the unit-norm queries of training triplets batch by batch, ordered by the row of their reference.

    Args:
        composer: the network, on `device`.
        bank: features of the unique training images, from the same image side.
        triplets: the training triplets; their images are in the bank.
        texts: text of each triplet.
        batch_size: queries per batch.
        workers: processes that read large rows, or decode images if the bank stores none.
        device: where the network runs.

    Raises:
        InputError: an image is not in the bank, or the GPU cannot hold a batch.
    """
    reference = triplet_rows(triplets, bank.row, "training queries").reference
    order = reference.argsort(stable=True)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    needed = [torch.unique(reference[chosen]) for chosen in batches]
    read = progress(bank.reference.read(needed, workers, device), len(needed), _LABEL, "batch")
    for chosen, rows, inputs in zip(batches, needed, read, strict=True):
        with torch.inference_mode(), memory_errors(_LABEL, batch_size):
            features = bank.reference.features(composer, inputs.to(device, non_blocking=True))
            positions = torch.searchsorted(rows, reference[chosen]).to(device)
            yield composer.compose(features[positions], [texts[i] for i in chosen.tolist()]).float()
