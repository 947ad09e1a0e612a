"""Scores and contrastive losses of candidates with several tokens: the maximum over a candidate's tokens."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spn4cir.losses.contrast import INFO_NCE, Contrast
from spn4cir.losses.dot_products import positive_temperature, score_contrast

# Dot products of tokens, or values of target features, in one block: 4 MB of float32, so that the maxima of a block are
# taken in the cache.
_BLOCK_VALUES = 1 << 20
# Factor of the block size on a GPU, where launching the kernels of a block takes longer than reading its memory.
_GPU_FACTOR = 16


def _blocks(queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "candidates tokens dim"]) -> Iterator[slice]:
    """Blocks of candidates that are compared at once."""
    values = _BLOCK_VALUES if queries.device.type == "cpu" else _BLOCK_VALUES * _GPU_FACTOR
    count = max(1, values // (targets.shape[1] * max(queries.shape)))
    for start in range(0, len(targets), count):
        yield slice(start, start + count)


class _TokenScores(torch.autograd.Function):
    """Maximum over the tokens of dot products.

    The index of the best token, (queries, candidates), is kept, so that the backward pass does not compute the dot
    products again.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Float[Tensor, "queries dim"],
        targets: Float[Tensor, "candidates tokens dim"],
    ) -> Float[Tensor, "queries candidates"]:
        best = queries.new_empty(len(queries), len(targets))
        differentiable = any(ctx.needs_input_grad)  # type: ignore[attr-defined]
        winner = torch.empty(best.shape if differentiable else 0, dtype=torch.long, device=best.device)
        for rows in _blocks(queries, targets):
            products = (queries @ targets[rows].float().flatten(0, 1).T).view(len(queries), -1, targets.shape[1])
            if differentiable:
                best[:, rows], winner[:, rows] = products.max(dim=2)
            else:
                best[:, rows] = products.amax(dim=2)
        ctx.save_for_backward(queries, targets, winner)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        queries, targets, winner = ctx.saved_tensors  # type: ignore[attr-defined]
        wants_queries, wants_targets = ctx.needs_input_grad  # type: ignore[attr-defined]
        on_queries = torch.zeros_like(queries) if wants_queries else None
        on_targets = torch.empty_like(targets) if wants_targets else None
        for rows in _blocks(queries, targets):
            block = targets[rows]
            gradient = queries.new_zeros(len(queries), *block.shape[:2])
            gradient.scatter_(2, winner[:, rows, None], upstream[:, rows, None])
            flat = gradient.flatten(1)
            if on_queries is not None:
                on_queries.addmm_(flat, block.float().flatten(0, 1))
            if on_targets is not None:
                on_targets[rows] = (flat.T @ queries).view(block.shape)
        return on_queries, on_targets


def token_scores(
    queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "candidates tokens dim"]
) -> Float[Tensor, "queries candidates"]:
    """Maximum over a candidate's tokens of the dot products with a query, in float32.

    Holds the dot products of only one block of candidates at a time, and converts targets of half precision to float32
    block by block. Gradients flow to the best token; if several tie, to one of them.

    Args:
        queries: unit norm.
        targets: unit norm, several tokens for each candidate.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores: Tensor = _TokenScores.apply(queries.float(), targets)
    return scores


def token_info_nce(
    queries: Float[Tensor, "batch dim"],
    targets: Float[Tensor, "candidates tokens dim"],
    labels: Int[Tensor, " batch"],
    temperature: float | Float[Tensor, ""],
    contrast: Contrast = INFO_NCE,
) -> Float[Tensor, ""]:
    """InfoNCE over `token_scores`, in batch or against a bank, in float32.

    With a `contrast`, the loss is the one that it describes. Gradients flow to queries, targets and temperature that
    require them.

    Args:
        queries: unit norm.
        targets: unit norm, several tokens for each candidate.
        labels: row of each query's target in `targets`.
        temperature: tau, above 0.
        contrast: what the loss does beside InfoNCE.

    Raises:
        ValueError: the temperature is not positive.
    """
    tau = positive_temperature(temperature, queries.device)
    if not contrast.plain:
        return score_contrast(token_scores(queries, targets), labels, tau, contrast)
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(token_scores(queries, targets) / tau, labels)
