"""Recall, in percent."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.ranking import target_rank


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


def recall_at_k(scores: Float[Tensor, "queries gallery"], target_index: Int[Tensor, " queries"], k: int) -> float:
    """Share of queries whose target ranks in the top k, in percent.

    Ties count against the target. Raises ValueError if k exceeds the gallery.
    Source: CIRR protocol, https://github.com/Cuberick-Orion/CIRR.
    """
    if k > scores.shape[1]:
        raise ValueError(f"k={k} exceeds the gallery of {scores.shape[1]}")
    return recall_of_ranks(target_rank(scores, target_index), k)
