"""InfoNCE, in batch or against a bank: the same function, the candidates differ."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _InfoNCE(torch.autograd.Function):
    """Softmax cross-entropy of dot products, with the logits turned into their gradient in place.

    A plain graph keeps the logits, their log-softmax and the gradient: three (batch, candidates) matrices where
    one is enough.
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

    Stage 1 passes the batch's own targets, stage 2 the bank (method: L with its denominator over the batch or over
    every training image). Gradients flow to those of queries, targets and temperature that ask for them.

    Args:
        queries: unit norm.
        targets: unit norm.
        labels: row of `targets` that each query is to find.
        temperature: tau, above 0.

    Raises:
        ValueError: for a temperature that is not positive.
    """
    with torch.autocast(queries.device.type, enabled=False):
        loss: Tensor = _InfoNCE.apply(
            queries.float(), targets.float(), labels, positive_temperature(temperature, queries.device)
        )
    return loss


def positive_temperature(temperature: float | Float[Tensor, ""], device: torch.device) -> Float[Tensor, ""]:
    """The temperature as a float32 scalar on the device. Raises ValueError for a number that is not positive.

    A tensor, which may be learned, is not looked at: that would wait for the device at every step.
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
    """InfoNCE with `negatives` candidates drawn for each query, without replacement, beside its target.

    Args:
        scores: similarity of each query with every candidate.
        labels: column of each query's target; never drawn as a negative.
        temperature: tau, above 0.
        negatives: how many to draw; all others where there are no more.
        generator: source of the draw, on the CPU.
    """
    negatives = min(negatives, scores.shape[1] - 1)
    keys = torch.rand(scores.shape, generator=generator).scatter_(1, labels.cpu()[:, None], -1.0)
    columns = keys.topk(negatives, dim=1, sorted=False).indices.to(scores.device)
    chosen = torch.cat([labels[:, None], columns], dim=1)
    logits = scores.gather(1, chosen).float() / temperature
    return F.cross_entropy(logits, torch.zeros_like(labels))
