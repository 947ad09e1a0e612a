"""Recall and mean average precision, in percent."""

import torch
from jaxtyping import Int
from torch import Tensor

from spn4cir.evaluation.score_recipe import average_precision


def recall_of_ranks(ranks: Int[Tensor, " queries"], k: int) -> float:
    """Share of queries whose rank is below k, in percent; rank 0 is the best.

    Raises ValueError if there are no queries, k is below 1, or a query has no rank (-1).
    """
    if k < 1 or not len(ranks) or bool((ranks < 0).any()):
        unranked = int(torch.count_nonzero(ranks < 0))
        raise ValueError(
            f"recall needs k >= 1 and ranked queries, got k={k}, {len(ranks)} queries, {unranked} unranked"
        )
    return 100.0 * int(torch.count_nonzero(ranks < k)) / len(ranks)


def map_at_k(target_ranks: Int[Tensor, "queries targets"], k: int) -> float:
    """Mean over the queries of `average_precision` at k, in percent.

    Args:
        target_ranks: ranks of all targets of a query, best first; 0 is the best; padded with -1.
        k: number of best candidates that count.

    Raises:
        ValueError: there are no queries, k is below 1, or a query has no target.
    """
    places = target_ranks.numpy() + 1
    if k < 1 or not len(places) or not (places > 0).any(axis=1).all():
        raise ValueError(f"mAP needs k >= 1 and queries with targets, got k={k}, {len(places)} queries")
    return 100.0 * float(average_precision(places, k).mean())
