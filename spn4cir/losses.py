"""InfoNCE losses, in batch or against a bank, for candidates of one vector or of several tokens."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Dot products of tokens, or values of target features, in one block: 4 MB of float32, so that the maxima of a block are
# taken in the cache.
_BLOCK_VALUES = 1 << 20
# Factor of the block size on a GPU, where launching the kernels of a block takes longer than reading its memory.
_GPU_FACTOR = 16


class _InfoNCE(torch.autograd.Function):
    """Softmax cross-entropy of dot products that replaces the logits by their gradient in place.

    A plain graph keeps the logits, their log-softmax and the gradient: three (batch, candidates) matrices instead of
    one.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates dim"],
        labels: Int[Tensor, " batch"],
        temperature: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        logits = (queries / temperature) @ targets.T
        shifted = logits.sub_(logits.amax(dim=1, keepdim=True))
        label_logits = shifted.gather(1, labels[:, None])
        gradient = shifted.exp_()
        total = gradient.sum(dim=1, keepdim=True)
        loss = (total.log() - label_logits).mean()
        gradient.div_(total)
        gradient.scatter_add_(1, labels[:, None], gradient.new_full((len(labels), 1), -1.0))
        ctx.save_for_backward(gradient, queries, targets, temperature)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None]:
        gradient, queries, targets, temperature = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = upstream / (temperature * len(queries))
        wants_queries, wants_targets, _, wants_temperature = ctx.needs_input_grad  # type: ignore[attr-defined]
        on_queries = gradient @ targets if wants_queries or wants_temperature else None
        return (
            on_queries * scale if wants_queries else None,
            (gradient.T @ queries) * scale if wants_targets else None,
            None,
            -(on_queries * queries).sum() * scale / temperature if wants_temperature else None,
        )


def info_nce(
    queries: Float[Tensor, "batch dim"],
    targets: Float[Tensor, "candidates dim"],
    labels: Int[Tensor, " batch"],
    temperature: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean of -log softmax(queries . targets / temperature) at the labels, in float32.

    Stage 1 passes the targets of the batch, stage 2 those of the bank: the denominator of the loss is the sum over the
    batch or over every training image. Gradients flow to queries, targets and temperature that require them.

    Args:
        queries: unit norm.
        targets: unit norm.
        labels: row of each query's target in `targets`.
        temperature: tau, above 0.

    Raises:
        ValueError: the temperature is not positive.
    """
    with torch.autocast(queries.device.type, enabled=False):
        loss: Tensor = _InfoNCE.apply(
            queries.float(), targets.float(), labels, positive_temperature(temperature, queries.device)
        )
    return loss


def positive_temperature(temperature: float | Float[Tensor, ""], device: torch.device) -> Float[Tensor, ""]:
    """The temperature as a float32 scalar on the device. Raises ValueError for a number that is not positive.

    The value of a tensor, which may be learned, is not checked: that would wait for the device at every step.
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return torch.as_tensor(temperature, dtype=torch.float32, device=device)


def sampled_info_nce(
    scores: Float[Tensor, "batch candidates"],
    labels: Int[Tensor, " batch"],
    temperature: float | Float[Tensor, ""],
    negatives: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """InfoNCE of each query's target and `negatives` other candidates, drawn without replacement.

    Args:
        scores: similarity of each query with every candidate.
        labels: column of each query's target; never drawn as a negative.
        temperature: tau, above 0.
        negatives: number of candidates to draw; all others if there are no more.
        generator: random generator of the draw, on the CPU.
    """
    negatives = min(negatives, scores.shape[1] - 1)
    keys = torch.rand(scores.shape, generator=generator).scatter_(1, labels.cpu()[:, None], -1.0)
    columns = keys.topk(negatives, dim=1, sorted=False).indices.to(scores.device)
    chosen = torch.cat([labels[:, None], columns], dim=1)
    logits = scores.gather(1, chosen).float() / temperature
    return F.cross_entropy(logits, torch.zeros_like(labels))


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
) -> Float[Tensor, ""]:
    """InfoNCE over `token_scores`, in batch or against a bank, in float32.

    Gradients flow to queries, targets and temperature that require them.

    Args:
        queries: unit norm.
        targets: unit norm, several tokens for each candidate.
        labels: row of each query's target in `targets`.
        temperature: tau, above 0.

    Raises:
        ValueError: the temperature is not positive.
    """
    tau = positive_temperature(temperature, queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(token_scores(queries, targets) / tau, labels)
