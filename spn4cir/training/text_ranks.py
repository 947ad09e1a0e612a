"""The ranks of generated triplets' targets by the stage-1 network, with the reference and without it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.evaluation.ranking import rank_gallery
from spn4cir.evaluation.text_alone import without_reference
from spn4cir.progress import progress
from spn4cir.training.bank import Bank
from spn4cir.training.epoch_plan import triplet_rows
from spn4cir.types import Triplet

_LABEL = "filter triplets"


class TextRanks(NamedTuple):
    """The ranks of the target of each text of triplets, over the images of a bank; 0 is the best.

    The texts are in the order of the triplets and of their captions.

    Attributes:
        query: rank for the reference and the text.
        alone: rank for the text without the reference.
    """

    query: Int[Tensor, " texts"]
    alone: Int[Tensor, " texts"]


class _Texts(NamedTuple):
    """The texts of triplets, sorted by the row of the reference, with the rows of both images."""

    texts: list[str]
    reference: Int[Tensor, " texts"]
    target: Int[Tensor, " texts"]
    order: Int[Tensor, " texts"]


def rank_texts(
    composer: Composer, bank: Bank, triplets: Sequence[Triplet], batch_size: int, workers: int, device: torch.device
) -> TextRanks:
    """Ranks the target of each text over the bank, without the reference and by the tie rule of `ranking`.

    The features of each reference are read once; images are decoded only if the bank stores no reference features. A
    target that is the reference itself gets the last rank.

    Args:
        composer: the network of the bank, on `device`.
        bank: features of the images.
        triplets: generated triplets.
        batch_size: references that are read at once, and texts that are composed at once.
        workers: processes that read the features, or decode the images.
        device: where the network runs.

    Raises:
        InputError: an image is not in the bank, the GPU cannot hold a batch, or features are not finite.
    """
    texts = _sorted_texts(triplets, bank)
    queries = _compose(composer, bank, texts, batch_size, workers, device)
    targets, unsorted = bank.target.to(device), texts.order.argsort()
    with torch.inference_mode():
        ranks = [
            rank_gallery(composer.score, kind, targets, texts.target, removed_index=texts.reference, top=1).rank
            for kind in queries
        ]
    return TextRanks(*(rank[unsorted] for rank in ranks))


def _sorted_texts(triplets: Sequence[Triplet], bank: Bank) -> _Texts:
    rows = triplet_rows(triplets, bank.row, "generated triplets")
    triplet = torch.tensor([number for number, each in enumerate(triplets) for _ in each.captions])
    order = rows.reference[triplet].argsort(stable=True)
    texts = [text for each in triplets for text in each.captions]
    triplet = triplet[order]
    return _Texts([texts[i] for i in order.tolist()], rows.reference[triplet], rows.target[triplet], order)


def _compose(
    composer: Composer, bank: Bank, texts: _Texts, batch_size: int, workers: int, device: torch.device
) -> tuple[Float[Tensor, "texts dim"], Float[Tensor, "texts dim"]]:
    """Returns the queries of the texts, composed with their references and without."""
    queries: list[Tensor] = []
    alone: list[Tensor] = []
    needed = torch.unique(texts.reference).split(batch_size)
    read = bank.reference.read(needed, workers, device)
    for rows, inputs in progress(zip(needed, read, strict=True), len(needed), _LABEL, "batch"):
        own = (texts.reference >= rows[0]) & (texts.reference <= rows[-1])  # both are sorted
        with torch.inference_mode(), memory_errors(_LABEL, batch_size):
            features = bank.reference.features(composer, inputs.to(device, non_blocking=True))
            for block in own.nonzero()[:, 0].split(batch_size):
                reference = features[torch.searchsorted(rows, texts.reference[block]).to(device)]
                said = [texts.texts[i] for i in block.tolist()]
                queries.append(composer.compose(reference, said).float())
                alone.append(composer.compose(without_reference(reference), said).float())
    found = torch.cat(queries), torch.cat(alone)
    if not all(torch.isfinite(kind).all() for kind in found):
        raise InputError(f"{_LABEL}: the features of stage 1 are not finite; train it or download it again")
    return found
