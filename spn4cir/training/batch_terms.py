"""Terms of the stage-2 loss in which the queries of a batch compete for a target, instead of the images for a query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Train
from spn4cir.parallel import ALONE, Group

if TYPE_CHECKING:
    from spn4cir.training.batches import Batch
_WHOLE = slice(None)


def target_to_query_info_nce(
    scores: Float[Tensor, "queries targets"],
    target: Int[Tensor, " queries"],
    temperature: Float[Tensor, ""],
    own: slice = _WHOLE,
) -> Float[Tensor, ""]:
    """Mean of -log softmax over the queries of a batch, for the target of each of them.

    L = -1/B sum_i log(exp(s_ii / tau) / sum_j exp(s_ji / tau)), where s_ji is the score of query j with the target of
    query i. Another query with the same target is no candidate.

    Args:
        scores: score of each query with the target of each query; both axes have the order of the batch.
        target: row of each query's target among the unique images.
        temperature: tau, above 0.
        own: the part of the batch whose targets the second axis has.
    """
    others = target[own, None] == target
    others.diagonal(offset=own.start or 0).fill_(False)
    logits = (scores.T.float() / temperature).masked_fill(others, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(target), device=scores.device)[own])


@dataclass(frozen=True)
class Swaps:
    """Wrong compositions of the queries of a batch, by positions in the batch.

    Attributes:
        reference: triplet whose reference is composed.
        text: triplet whose text is composed.
        wrong: whether the composition is a negative for the query's target.
    """

    reference: Int[Tensor, "swaps batch"]
    text: Int[Tensor, "swaps batch"]
    wrong: Bool[Tensor, "swaps batch"]

    @classmethod
    def of_batch(
        cls, reference: Int[Tensor, " batch"], texts: Sequence[str], target: Int[Tensor, " batch"], count: int
    ) -> Self:
        """Replaces, for each query, in turn the text and the reference by that of another triplet of the batch.

        The other triplets are the next `count` ones in the batch, whose order is random in each epoch. A swap is no
        negative if the other triplet has the same target, or the composition is the query itself.

        Args:
            reference: row of each reference among the unique images.
            texts: the modification texts.
            target: row of each target among the unique images.
            count: swaps of each query, fewer than the batch has triplets.
        """
        own = torch.arange(len(texts)).expand(count, -1)
        other = (own + torch.arange(1, count + 1)[:, None]) % len(texts)
        swaps_text = (torch.arange(count) % 2 == 0)[:, None]
        numbers = {text: number for number, text in enumerate(texts)}
        text = torch.tensor([numbers[each] for each in texts])
        changed = torch.where(swaps_text, text[other] != text[own], reference[other] != reference[own])
        return cls(
            torch.where(swaps_text, own, other),
            torch.where(swaps_text, other, own),
            changed & (target[other] != target[own]),
        )

    def part(self, own: slice) -> Self:
        """The wrong compositions of a part of the queries."""
        return type(self)(self.reference[:, own], self.text[:, own], self.wrong[:, own])


def swap_info_nce(
    own: Float[Tensor, " batch"],
    swapped: Float[Tensor, "swaps batch"],
    wrong: Bool[Tensor, "swaps batch"],
    temperature: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean of -log softmax over a query and its wrong compositions, for the query's target.

    L = -1/B sum_i log(exp(s_ii / tau) / (exp(s_ii / tau) + sum_k exp(s_ki / tau))) over the swaps k that are wrong.

    Args:
        own: score of each query with its target.
        swapped: score of each composition with the query's target.
        wrong: which compositions are negatives.
        temperature: tau, above 0.
    """
    # Masked after the division: the gradient of a learned temperature is not finite for a score of minus infinity.
    negatives = (swapped.float() / temperature).masked_fill(~wrong, -torch.inf)
    logits = torch.cat([own.float()[None] / temperature, negatives]).T
    return F.cross_entropy(logits, torch.zeros(len(own), dtype=torch.long, device=own.device))


def batch_terms(
    composer: Composer,
    settings: Train,
    batch: "Batch",
    reference: Callable[[Int[Tensor, " some"]], Tensor],
    queries: Tensor,
    targets: Tensor,
    group: Group = ALONE,
) -> Float[Tensor, ""]:
    """The terms that the settings add: `symmetric` times the loss from targets to queries, and the loss over `swaps`.

    In a group of processes, the means are those over the part of this process; all parts are equally large.

    Args:
        composer: the network, which composes the swaps and has the temperature.
        settings: `symmetric` and `swaps`, at least one of them not 0.
        batch: the triplets of the step.
        reference: returns the reference features of the triplets at some positions in the batch.
        queries: the queries of the part, unit norm.
        targets: the target features of the part, unit norm.
        group: the processes that train together.
    """
    own = group.part(len(batch.texts))
    candidates = group.gather(queries) if settings.symmetric else queries
    terms, scores = [], _scores(composer, candidates, targets)
    if settings.symmetric:
        term = target_to_query_info_nce(scores, batch.target.to(scores.device), composer.temperature, own)
        terms.append(settings.symmetric * term)
    if settings.swaps:
        swaps = Swaps.of_batch(batch.reference, batch.texts, batch.target, settings.swaps).part(own)
        texts = [batch.texts[i] for i in swaps.text.flatten().tolist()]
        composed = composer.compose(reference(swaps.reference.flatten()), texts)
        swapped = _scores(composer, composed, targets).view(*swaps.wrong.shape, -1).diagonal(dim1=1, dim2=2)
        right = scores.diagonal(offset=-own.start if settings.symmetric else 0)
        terms.append(swap_info_nce(right, swapped, swaps.wrong.to(scores.device), composer.temperature))
    return torch.stack(terms).sum()


def _scores(composer: Composer, queries: Tensor, targets: Tensor) -> Float[Tensor, "queries targets"]:
    """Scores in float32, as the main loss computes them under autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        return composer.score(queries.float(), targets)
