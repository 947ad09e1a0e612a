"""The `Contrast` of each batch of stage 2, from its settings."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Train
from spn4cir.losses import Contrast
from spn4cir.training.bank import Bank
from spn4cir.training.false_negatives import FalseNegatives
from spn4cir.types import Triplet

_WHOLE = slice(None)


class Contrasts:
    """Builds what the loss of a batch does beside InfoNCE.

    Args:
        triplets: the training triplets.
        bank: features of the images that the triplets name.
        settings: `generated_loss`, `generated_weight`, `hardness` and `false_negatives`.
        targets: the bank's target features on the device of the training.
    """

    def __init__(self, triplets: Sequence[Triplet], bank: Bank, settings: Train, targets: Tensor) -> None:
        self._settings = settings
        self._generated = torch.from_numpy(np.fromiter((each.generated for each in triplets), bool))
        rule = settings.false_negatives
        self._false_negatives = None if rule is None else FalseNegatives(triplets, bank, rule, targets)

    def of(self, composer: Composer, chosen: Int[Tensor, " batch"], own: slice = _WHOLE) -> Contrast:
        """Returns the contrast of a batch, or of a part of it.

        Args:
            composer: the network, whose scores compare targets.
            chosen: positions of the batch's triplets.
            own: the part.
        """
        generated = self._generated[chosen[own]]
        weights = self._weights(self._generated[chosen])
        robust = self._settings.generated_loss == "robust" and bool(generated.any())
        return Contrast(
            weights=None if weights is None else weights[own],
            robust=generated if robust else None,
            hardness=self._settings.hardness,
            excluded=self._excluded(composer, chosen, own),
        )

    def share(self, chosen: Int[Tensor, " batch"], own: slice) -> float:
        """Returns the share of a part of a batch in the weighted mean over the batch; 1 for the whole batch."""
        weights = self._weights(self._generated[chosen])
        if weights is None:
            return len(chosen[own]) / len(chosen)
        return float(weights[own].sum() / weights.sum())

    def _weights(self, generated: Bool[Tensor, " batch"]) -> Float[Tensor, " batch"] | None:
        """Returns the weight of each triplet; None if all are equal."""
        weight = self._settings.generated_weight
        if weight == 1 or bool(generated.all()) or not bool(generated.any()):
            return None
        return torch.where(generated, weight, 1.0)

    def _excluded(self, composer: Composer, chosen: Int[Tensor, " batch"], own: slice) -> Int[Tensor, "2 pairs"] | None:
        if self._false_negatives is None:
            return None
        if self._settings.negatives == "batch":
            pairs = self._false_negatives.in_batch(composer, chosen, own)
        else:
            pairs = self._false_negatives.in_bank(composer, chosen[own])
        return pairs if pairs.numel() else None
