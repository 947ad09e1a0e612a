"""Contrastive losses of dot products, in batch or against a bank, for candidates of one vector."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spn4cir.losses.contrast import INFO_NCE, Contrast, replace_by_gradients, robust_first

# Dot products of a batch with frozen targets that are held at once: 64 MB of float32, 1 GB on a GPU; but of no fewer
# queries than this, because each block of queries reads all targets.
_HELD_VALUES, _GPU_FACTOR = 1 << 24, 16
_FEWEST_ROWS = 32


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


class _Contrast(torch.autograd.Function):
    """The loss of a `Contrast` over dot products; replaces the logits by their gradient in place, as `_InfoNCE` does.

    The queries of the robust loss come first.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates dim"],
        labels: Int[Tensor, " batch"],
        temperature: Float[Tensor, ""],
        contrast: Contrast,
    ) -> Float[Tensor, ""]:
        logits = (queries / temperature) @ targets.T
        losses, share = replace_by_gradients(logits, labels, contrast), contrast.share(queries)
        ctx.save_for_backward(logits, share, queries, targets, temperature)
        return losses @ share.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        gradient, share, queries, targets, temperature = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = share * (upstream / temperature)
        wants_queries, wants_targets, _, wants_temperature, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        on_queries = (gradient @ targets) * scale if wants_queries or wants_temperature else None
        return (
            on_queries if wants_queries else None,
            gradient.T @ (queries * scale) if wants_targets else None,
            None,
            -(on_queries * queries).sum() / temperature if wants_temperature else None,
            None,
        )


class _FrozenTargets(torch.autograd.Function):
    """The loss of a `Contrast` over dot products with targets that need no gradient, for some queries at a time.

    The gradients of the queries are computed with the loss, so that no (batch, candidates) matrix is kept. The queries
    of the robust loss come first.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates dim"],
        labels: Int[Tensor, " batch"],
        temperature: Float[Tensor, ""],
        contrast: Contrast,
    ) -> Float[Tensor, ""]:
        scaled, losses = queries / temperature, queries.new_empty(len(queries))
        on_queries = torch.empty_like(queries)
        wants_gradients = any(ctx.needs_input_grad)  # type: ignore[attr-defined]
        at_once = _at_once(targets)
        held = queries.new_empty(min(at_once, len(queries)), len(targets))
        for start in range(0, len(queries), at_once):
            rows = slice(start, min(start + at_once, len(queries)))
            logits = torch.mm(scaled[rows], targets.T, out=held[: rows.stop - rows.start])
            losses[rows] = replace_by_gradients(logits, labels[rows], contrast.rows(rows.start, rows.stop))
            if wants_gradients:
                on_queries[rows] = logits @ targets
        share = contrast.share(queries)
        ctx.save_for_backward(on_queries * share, queries, temperature)
        return losses @ share.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, None]:
        on_queries, queries, temperature = ctx.saved_tensors  # type: ignore[attr-defined]
        wants_queries, _, _, wants_temperature, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        scale = upstream / temperature
        return (
            on_queries * scale if wants_queries else None,
            None,
            None,
            -(on_queries * queries).sum() * scale / temperature if wants_temperature else None,
            None,
        )


def _at_once(targets: Float[Tensor, "candidates dim"]) -> int:
    """The number of queries that `_FrozenTargets` compares at once."""
    values = _HELD_VALUES if targets.device.type == "cpu" else _HELD_VALUES * _GPU_FACTOR
    return max(_FEWEST_ROWS, values // max(len(targets), 1))


class _ScoreContrast(torch.autograd.Function):
    """The loss of a `Contrast` over given scores; the queries of the robust loss come first."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        scores: Float[Tensor, "batch candidates"],
        labels: Int[Tensor, " batch"],
        temperature: Float[Tensor, ""],
        contrast: Contrast,
    ) -> Float[Tensor, ""]:
        logits = scores / temperature
        losses, share = replace_by_gradients(logits, labels, contrast), contrast.share(scores)
        ctx.save_for_backward(logits, share, scores, temperature)
        return losses @ share.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        on_scores, on_temperature = score_gradients(ctx, upstream)
        return on_scores, None, on_temperature, None


def score_gradients(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns the gradients of a loss over scores, for the scores and for the temperature if that is asked for.

    Args:
        ctx: has saved the gradient of each query's loss for its logits, the share of each query in the loss, the scores
            and the temperature; the temperature is the third input.
        upstream: gradient of the loss.
    """
    gradient, share, scores, temperature = ctx.saved_tensors  # type: ignore[attr-defined]
    on_scores = gradient * (share * (upstream / temperature))
    wants_temperature = ctx.needs_input_grad[2]  # type: ignore[attr-defined]
    return on_scores, -(on_scores * scores).sum() / temperature if wants_temperature else None


def info_nce(
    queries: Float[Tensor, "batch dim"],
    targets: Float[Tensor, "candidates dim"],
    labels: Int[Tensor, " batch"],
    temperature: float | Float[Tensor, ""],
    contrast: Contrast = INFO_NCE,
) -> Float[Tensor, ""]:
    """Mean of -log softmax(queries . targets / temperature) at the labels, in float32.

    Stage 1 passes the targets of the batch, stage 2 those of the bank: the denominator of the loss is the sum over the
    batch or over every training image. With a `contrast`, the loss is the one that it describes. Gradients flow to
    queries, targets and temperature that require them. If the targets require none and are many, the dot products of
    only some queries are held at a time.

    Args:
        queries: unit norm.
        targets: unit norm.
        labels: row of each query's target in `targets`.
        temperature: tau, above 0.
        contrast: what the loss does beside InfoNCE.

    Raises:
        ValueError: the temperature is not positive.
    """
    tau = positive_temperature(temperature, queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        queries, targets = queries.float(), targets.float()
        if not targets.requires_grad and len(queries) > _at_once(targets):
            contrast, queries, labels = robust_first(contrast, queries, labels)
            loss: Tensor = _FrozenTargets.apply(queries, targets, labels, tau, contrast)
        elif contrast.plain:
            loss = _InfoNCE.apply(queries, targets, labels, tau)
        else:
            contrast, queries, labels = robust_first(contrast, queries, labels)
            loss = _Contrast.apply(queries, targets, labels, tau, contrast)
    return loss


def score_contrast(
    scores: Float[Tensor, "batch candidates"],
    labels: Int[Tensor, " batch"],
    temperature: Float[Tensor, ""],
    contrast: Contrast,
) -> Float[Tensor, ""]:
    """Loss of a `Contrast` that is not plain, over given scores, in float32.

    Gradients flow to scores and temperature that require them.

    Args:
        scores: similarity of each query with every candidate.
        labels: column of each query's target.
        temperature: tau, above 0.
        contrast: the loss.
    """
    with torch.autocast(scores.device.type, enabled=False):
        contrast, scores, labels = robust_first(contrast, scores.float(), labels)
        loss: Tensor = _ScoreContrast.apply(scores, labels, temperature, contrast)
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
    contrast: Contrast = INFO_NCE,
) -> Float[Tensor, ""]:
    """InfoNCE of each query's target and `negatives` other candidates, drawn without replacement.

    Args:
        scores: similarity of each query with every candidate.
        labels: column of each query's target; never drawn as a negative.
        temperature: tau, above 0.
        negatives: number of candidates to draw; all others if there are no more.
        generator: random generator of the draw, on the CPU.
        contrast: what the loss does beside InfoNCE, among the drawn candidates. Excluded candidates are not drawn; if
            too few others remain, fewer are drawn.
    """
    negatives = min(negatives, scores.shape[1] - 1)
    keys = torch.rand(scores.shape, generator=generator)
    if contrast.excluded is not None:
        rows, columns = contrast.excluded.cpu()
        keys[rows, columns] = -0.5
    keys.scatter_(1, labels.cpu()[:, None], -1.0)
    drawn = keys.topk(negatives, dim=1, sorted=False)
    chosen = torch.cat([labels[:, None], drawn.indices.to(scores.device)], dim=1)
    scores, labels = scores.gather(1, chosen).float(), torch.zeros_like(labels)
    if contrast.plain:
        return F.cross_entropy(scores / temperature, labels)
    if contrast.excluded is not None:
        # The label is the first column of the drawn ones.
        excluded = (drawn.values < 0).nonzero().T + torch.tensor([[0], [1]])
        contrast = replace(contrast, excluded=excluded)
    return score_contrast(scores, labels, positive_temperature(temperature, scores.device), contrast)
