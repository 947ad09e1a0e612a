"""The loss of a `Contrast` in terms of torch functions, with gradients by autograd."""

import torch
from torch import Tensor

from spn4cir.losses import Contrast


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
