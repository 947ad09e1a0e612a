"""What a loss does beside InfoNCE: weights, the robust loss, hard negatives and excluded candidates.

Notation: z are the logits of one query, similarities divided by the temperature; y is the label, p = softmax(z).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Logits in one block of rows: 2 MB of float32, so that the passes over a block read it from the cache.
_BLOCK_VALUES = 1 << 19
# Factor of the block size on a GPU, where launching the kernels of a block takes longer than reading its memory.
_GPU_FACTOR = 32
# Smallest 1 - p in the robust loss, as in the code of the cited papers.
SMALLEST_REST = 1e-7

_Rows = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contrast:
    """What a loss does beside InfoNCE; by default nothing.

    Attributes:
        weights: weight of each query in the mean over the batch, above 0; None: equal weights.
        robust: queries with the robust loss, -sum over j != y of log(1 - p_j), instead of InfoNCE; on the CPU, so that
            their number is known without waiting for the device. None: no query.
        hardness: beta, at least 0. The denominator weights each negative j by exp(beta z_j), normalised to a mean of 1
            over the negatives; no gradient flows through these weights (HN-NCE, Radenovic et al., CVPR 2023).
        excluded: pairs of a query and a candidate that leaves the denominator of the query, as two rows of positions;
            never a label. None: no pair.
    """

    weights: Float[Tensor, " batch"] | None = None
    robust: Bool[Tensor, " batch"] | None = None
    hardness: float = 0.0
    excluded: Int[Tensor, "2 pairs"] | None = None

    @property
    def plain(self) -> bool:
        """Whether the loss is InfoNCE."""
        return self.weights is None and self.robust is None and not self.hardness and self.excluded is None

    def rows(self, start: int, end: int) -> "Contrast":
        """Returns the contrast of the queries from `start` to before `end`."""
        weights, robust = (None if part is None else part[start:end] for part in (self.weights, self.robust))
        excluded = self.excluded
        if excluded is not None:
            excluded = excluded[:, (excluded[0] >= start) & (excluded[0] < end)]
            excluded = torch.stack([excluded[0] - start, excluded[1]])
        return replace(self, weights=weights, robust=robust, excluded=excluded)

    def share(self, like: Tensor) -> Float[Tensor, "batch 1"]:
        """Returns the share of each row of `like` in the mean; the shares sum to 1."""
        if self.weights is None:
            return like.new_full((len(like), 1), 1 / len(like))
        weights = self.weights.to(like)
        return (weights / weights.sum())[:, None]


INFO_NCE = Contrast()


def robust_first(
    contrast: Contrast, queries: Float[Tensor, "batch dim"], labels: Int[Tensor, " batch"]
) -> tuple[Contrast, Float[Tensor, "batch dim"], Int[Tensor, " batch"]]:
    """Returns the three arguments with the queries of the robust loss before the others.

    `replace_by_gradients` needs this order, because it processes blocks of rows with one loss.
    """
    if contrast.robust is None:
        return contrast, queries, labels
    order = torch.argsort(~contrast.robust, stable=True)
    on_device = order.to(queries.device, non_blocking=True)
    weights = None if contrast.weights is None else contrast.weights[order.to(contrast.weights.device)]
    excluded = contrast.excluded
    if excluded is not None:
        position = torch.argsort(order).to(excluded.device)
        excluded = torch.stack([position[excluded[0]], excluded[1]])
    ordered = replace(contrast, weights=weights, robust=contrast.robust[order], excluded=excluded)
    return ordered, queries[on_device], labels[on_device]


def replace_by_gradients(
    logits: Float[Tensor, "batch candidates"], labels: Int[Tensor, " batch"], contrast: Contrast
) -> Float[Tensor, " batch"]:
    """Returns the loss of each query and replaces its logits by the gradient of this loss, in place.

    Works on blocks of rows, so that temporary memory does not depend on the batch. The weights of the queries are not
    applied.

    Args:
        logits: overwritten by the gradients.
        labels: column of each query's target.
        contrast: the loss; queries with the robust loss come first.
    """
    if contrast.excluded is not None:
        rows, columns = contrast.excluded.to(logits.device)
        logits[rows, columns] = -torch.inf
    robust = 0 if contrast.robust is None else int(contrast.robust.sum())
    losses = logits.new_empty(len(logits))
    parts: tuple[tuple[int, int, _Rows], ...] = ((0, robust, _robust), (robust, len(logits), _cross_entropy))
    for start, end, loss in parts:
        for rows in _row_blocks(start, end, logits):
            block, own = logits[rows], labels[rows, None]
            if contrast.hardness:
                _weight_negatives(block, own, contrast.hardness)
            losses[rows] = loss(block, own).squeeze(1)
    return losses


def _row_blocks(start: int, end: int, logits: Tensor) -> Iterator[slice]:
    values = _BLOCK_VALUES if logits.device.type == "cpu" else _BLOCK_VALUES * _GPU_FACTOR
    count = max(1, values // logits.shape[1])
    for first in range(start, end, count):
        yield slice(first, min(first + count, end))


def _weight_negatives(block: Tensor, own: Tensor, hardness: float) -> None:
    """Adds the logarithm of the weight of each negative to its logit, in place."""
    label_logits = block.gather(1, own)
    negatives = (block * hardness).scatter_(1, own, -torch.inf)
    count = negatives.isfinite().sum(dim=1, keepdim=True)
    shift = count.log() - negatives.logsumexp(dim=1, keepdim=True)
    # Without a negative, -inf - -inf is not a number.
    block.mul_(1 + hardness).add_(shift.where(count > 0, 0.0)).scatter_(1, own, label_logits)


def _cross_entropy(block: Tensor, own: Tensor) -> Tensor:
    """Returns -log p_y and replaces the logits by p - [k = y]."""
    block.sub_(block.amax(dim=1, keepdim=True))
    label_logits = block.gather(1, own)
    total = block.exp_().sum(dim=1, keepdim=True)
    block.div_(total).scatter_add_(1, own, block.new_full(own.shape, -1.0))
    return total.log() - label_logits


def _robust(block: Tensor, own: Tensor) -> Tensor:
    """Returns -sum over j != y of log(1 - p_j) and replaces the logits by the gradient.

    With r_j = p_j / (1 - p_j) for j != y, the gradient is [k != y] r_k - p_k sum over j of r_j. Only the largest p_j
    can be near 1: its 1 - p_j is the sum of the others, at least `SMALLEST_REST`, so that no digits cancel.
    """
    largest, top = block.max(dim=1, keepdim=True)
    block.sub_(largest).exp_()
    label_power = block.gather(1, own)
    block.scatter_(1, own, 0.0).scatter_(1, top, 0.0)
    rest = block.sum(dim=1, keepdim=True) + label_power
    top_power = (top != own).to(rest)
    total = rest + top_power
    block.div_(total)
    top_share, rest_share = top_power / total, rest / total
    top_odds = top_share / rest_share.clamp(min=SMALLEST_REST)
    other = torch.neg(block).log1p_()
    loss = -other.sum(dim=1, keepdim=True) - rest_share.clamp(min=SMALLEST_REST).log()
    torch.sub(1.0, block, out=other).reciprocal_()
    odds = torch.linalg.vecdot(block, other).unsqueeze(1)
    block.mul_(other.sub_(odds + top_odds))
    block.scatter_(1, top, top_odds * rest_share - top_share * odds)
    block.scatter_(1, own, -label_power / total * (odds + top_odds))
    return loss
