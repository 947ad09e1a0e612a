"""Validation of weights: stage 2, and stage 1 beside it."""

import torch

from spn4cir.bank import tensors_hash
from spn4cir.composers.protocol import Composer
from spn4cir.datasets.protocol import Layout
from spn4cir.evaluation import Evaluation, encode_splits, evaluate
from spn4cir.params import Validate


def validate_both(
    after: Composer, before: Composer, layout: Layout, settings: Validate, workers: int, device: torch.device
) -> tuple[Evaluation, Evaluation]:
    """Scores of the stage-2 and of the stage-1 network.

    The galleries are encoded once: stage 2 leaves the image side as it is. Where its tensors differ all the same, as
    with weights from elsewhere, each network encodes for itself.
    """
    splits = layout.evaluation_splits()
    images = encode_splits(after.to(device), splits, settings, workers, device)
    second = evaluate(after, layout, splits, images, settings, device)
    if tensors_hash(after.frozen_tensors()) != tensors_hash(before.frozen_tensors()):
        del images
        images = encode_splits(before.to(device), splits, settings, workers, device)
    first = evaluate(before.to(device), layout, splits, images, settings, device)
    return second, first
