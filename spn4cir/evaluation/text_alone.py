"""Queries by the text alone."""

import torch
from torch import Tensor


def without_reference(features: Tensor) -> Tensor:
    """Returns reference features of zeros in the shape of the given ones, which take no memory.

    A query that is composed with them is a query by the text alone. For composition by addition it is exactly the
    normalised text feature.
    """
    return torch.zeros((), dtype=features.dtype, device=features.device).expand_as(features)
