"""Recall, in percent."""

import torch
from jaxtyping import Int
from torch import Tensor


def recall_of_ranks(ranks: Int[Tensor, " queries"], k: int) -> float:
    """Share of queries whose rank is below k (rank 0 is the best place), in percent.

    Raises ValueError for no queries, for k below 1 and for a query without a rank (-1).
    """
    if k < 1 or not len(ranks) or bool((ranks < 0).any()):
        unranked = int(torch.count_nonzero(ranks < 0))
        raise ValueError(
            f"recall needs k >= 1 and ranked queries, got k={k}, {len(ranks)} queries, {unranked} unranked"
        )
    return 100.0 * int(torch.count_nonzero(ranks < k)) / len(ranks)
