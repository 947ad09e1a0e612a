"""Average precision of ranked lists; free of torch, as comparing runs is."""

import numpy as np
from jaxtyping import Float, Int


def average_precision(places: Int[np.ndarray, "queries targets"], k: int) -> Float[np.ndarray, " queries"]:
    """AP@k of each query: the sum over the targets in the top k of the precision at their places, over min(k, targets).

    Args:
        places: of all targets of a query, ascending, 1 for the best; 0 behind the last. Each query has a target.
        k: the last place that counts.

    Source: CIRCO's evaluation, https://github.com/miccunifi/CIRCO.
    """
    hits = (places > 0) & (places <= k)
    precision = np.arange(1, places.shape[1] + 1) / np.maximum(places, 1)
    best: Float[np.ndarray, " queries"] = (hits * precision).sum(axis=1) / np.minimum((places > 0).sum(axis=1), k)
    return best
