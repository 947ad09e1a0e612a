"""The loss of a `Contrast` in terms of torch functions, and examples of each loss."""

import torch
from torch import Tensor

from spn4cir.losses import INFO_NCE, Contrast


def naive(scores: Tensor, labels: Tensor, temperature: Tensor | float, contrast: Contrast) -> Tensor:
    """Computes each query's loss on its own, from whole rows."""
    logits = scores / temperature
    losses = []
    for row, (own, label) in enumerate(zip(logits, labels.tolist(), strict=True)):
        kept = torch.ones(len(own), dtype=torch.bool)
        if contrast.excluded is not None:
            kept[contrast.excluded[1][contrast.excluded[0] == row]] = False
        negative = kept.clone()
        negative[label] = False
        weights = torch.ones_like(own)
        if contrast.hardness and negative.any():
            hard = (contrast.hardness * own[negative]).detach().softmax(dim=0)
            weights = weights.masked_scatter(negative, hard * negative.sum())
        shares = (own + weights.log())[kept].softmax(dim=0)
        is_label = (torch.arange(len(own)) == label)[kept]
        robust = contrast.robust is not None and bool(contrast.robust[row])
        losses.append(-torch.log1p(-shares[~is_label]).sum() if robust else -shares[is_label].log().sum())
    mean = torch.stack(losses)
    return mean.mean() if contrast.weights is None else (contrast.weights * mean).sum() / contrast.weights.sum()


EXAMPLES = ("info_nce", "weighted", "robust", "robust_and_weighted", "hardness", "false_negatives")


def example(name: str, batch: int, candidates: int) -> Contrast:
    """Returns a loss by its name; every label is the first candidate.

    Half of the queries have a lower weight, or the robust loss where both are mixed; a hundredth of the candidates are
    false negatives.
    """
    half = torch.arange(batch) % 2 == 0
    count = batch * (candidates // 100)
    excluded = torch.stack([torch.arange(count) % batch, torch.randint(1, candidates, (count,))])
    return {
        "info_nce": INFO_NCE,
        "weighted": Contrast(weights=torch.where(half, 0.3, 1.0)),
        "robust": Contrast(robust=torch.ones(batch, dtype=torch.bool)),
        "robust_and_weighted": Contrast(weights=torch.where(half, 0.3, 1.0), robust=half),
        "hardness": Contrast(hardness=0.5),
        "false_negatives": Contrast(excluded=excluded),
    }[name]
