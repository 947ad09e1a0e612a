"""The loss of a `Contrast` over candidates that are divided among processes.

Each process has the scores of all queries with its own candidates. The processes exchange a few numbers for each query:
the largest logit and sums over the candidates. Notation: see `spn4cir.losses.contrast`.
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spn4cir.losses.contrast import SMALLEST_REST, Contrast, robust_first
from spn4cir.losses.dot_products import score_gradients

Column = Float[Tensor, "batch 1"]


class Ranks(Protocol):
    """The processes among which the candidates are divided."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes."""

    def maximum(self, values: Tensor) -> Tensor:
        """The maximum over the processes."""


class _ShardedContrast(torch.autograd.Function):
    """The part of one process in the loss; the queries of the robust loss come first."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        scores: Float[Tensor, "batch candidates"],
        labels: Int[Tensor, " batch"],
        temperature: Float[Tensor, ""],
        contrast: Contrast,
        ranks: Ranks,
    ) -> Float[Tensor, ""]:
        logits = scores / temperature
        if contrast.excluded is not None:
            rows, columns = contrast.excluded.to(logits.device)
            logits[rows, columns] = -torch.inf
        robust = 0 if contrast.robust is None else int(contrast.robust.sum())
        losses = []
        for rows, loss in ((slice(robust), _robust), (slice(robust, None), _cross_entropy)):
            if len(labels[rows]):
                block, own = logits[rows], _Labels(labels[rows, None])
                if contrast.hardness:
                    _weight_negatives(block, own, contrast.hardness, ranks)
                losses.append(loss(block, own, ranks))
        share = contrast.share(scores)
        ctx.save_for_backward(logits, share, scores, temperature)
        return (torch.cat(losses) * share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        on_scores, on_temperature = score_gradients(ctx, upstream)
        return on_scores, None, on_temperature, None, None


class _Labels:
    """The labels of queries, of which this process has some.

    Args:
        labels: column of each query's target; -1 if another process has it.
    """

    def __init__(self, labels: Int[Tensor, "batch 1"]) -> None:
        self.here = labels >= 0
        self.column = labels.clamp(min=0)

    def of(self, block: Tensor) -> Column:
        """The values at the labels; 0 where another process has the label."""
        return block.gather(1, self.column).where(self.here, 0.0)

    def set(self, block: Tensor, values: Column | float) -> None:
        """Replaces the values at the labels that this process has."""
        _set(block, self.column, self.here, values)


def _set(block: Tensor, column: Int[Tensor, "batch 1"], here: Tensor, values: Column | float) -> None:
    """Replaces one value of each row where `here`."""
    old = block.gather(1, column)
    block.scatter_(1, column, torch.where(here, values, old))


def _weight_negatives(block: Tensor, own: _Labels, hardness: float, ranks: Ranks) -> None:
    """Adds the logarithm of the weight of each negative to its logit, in place."""
    label_logits = own.of(block)
    negatives = block * hardness
    own.set(negatives, -torch.inf)
    count = ranks.sum(negatives.isfinite().sum(dim=1, keepdim=True).to(block))
    largest = ranks.maximum(negatives.amax(dim=1, keepdim=True))
    # Without a negative, -inf - -inf is not a number.
    largest = largest.where(count > 0, 0.0)
    total = ranks.sum(negatives.sub_(largest).exp_().sum(dim=1, keepdim=True))
    shift = (count.log() - largest - total.log()).where(count > 0, 0.0)
    block.mul_(1 + hardness).add_(shift)
    own.set(block, label_logits)


def _cross_entropy(block: Tensor, own: _Labels, ranks: Ranks) -> Column:
    """Returns -log p_y where this process has the label, else 0, and replaces the logits by p - [k = y]."""
    block.sub_(ranks.maximum(block.amax(dim=1, keepdim=True)))
    label_logits = own.of(block)
    total = ranks.sum(block.exp_().sum(dim=1, keepdim=True))
    block.div_(total)
    own.set(block, own.of(block) - 1)
    return (total.log() - label_logits).where(own.here, 0.0)


def _robust(block: Tensor, own: _Labels, ranks: Ranks) -> Column:
    """Returns this process's part of -sum over j != y of log(1 - p_j) and replaces the logits by the gradient.

    See `spn4cir.losses.contrast._robust`, which this function divides among processes. One process has the largest p_j.
    """
    value, top = block.max(dim=1, keepdim=True)
    largest = ranks.maximum(value)
    has_top = value == largest
    # Of several equal values, that of the first process.
    has_top &= ranks.maximum(torch.where(has_top, -ranks.rank, -torch.inf).to(block)) == -ranks.rank
    block.sub_(largest).exp_()
    label_power = ranks.sum(own.of(block))
    top_is_label = ranks.sum((has_top & own.here & (top == own.column)).to(block))
    own.set(block, 0.0)
    _set(block, top, has_top, 0.0)
    rest = ranks.sum(block.sum(dim=1, keepdim=True)) + label_power
    top_power = 1 - top_is_label
    total = rest + top_power
    block.div_(total)
    top_share, rest_share = top_power / total, rest / total
    top_odds = top_share / rest_share.clamp(min=SMALLEST_REST)
    other = torch.neg(block).log1p_()
    loss = -other.sum(dim=1, keepdim=True) - rest_share.clamp(min=SMALLEST_REST).log().where(has_top, 0.0)
    torch.sub(1.0, block, out=other).reciprocal_()
    odds = ranks.sum(torch.linalg.vecdot(block, other).unsqueeze(1))
    block.mul_(other.sub_(odds + top_odds))
    _set(block, top, has_top, top_odds * rest_share - top_share * odds)
    own.set(block, -label_power / total * (odds + top_odds))
    return loss


def sharded_contrast(
    scores: Float[Tensor, "batch candidates"],
    labels: Int[Tensor, " batch"],
    temperature: Float[Tensor, ""],
    contrast: Contrast,
    ranks: Ranks,
) -> Float[Tensor, ""]:
    """This process's part of the loss of a `Contrast` over the candidates of all processes, in float32.

    The loss is the sum of the parts. Gradients flow to the scores of this process; the gradient of the temperature is
    the sum over the processes.

    Args:
        scores: similarity of each query with every candidate of this process, of which it has at least one.
        labels: column of each query's target; -1 if another process has it.
        temperature: tau, above 0.
        contrast: the loss; `excluded` are columns of this process.
        ranks: the processes, which all pass the same queries.
    """
    with torch.autocast(scores.device.type, enabled=False):
        contrast, scores, labels = robust_first(contrast, scores.float(), labels)
        loss: Tensor = _ShardedContrast.apply(scores, labels, temperature, contrast, ranks)
    return loss
