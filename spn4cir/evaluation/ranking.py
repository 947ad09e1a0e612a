"""Ranks and top lists of a query-by-gallery score matrix, computed block by block.

Tie rule: a candidate that scores as high as the target counts as ranked above it, so that a rank does not depend on
the order of the gallery. Top lists break ties by the order of the columns, which callers sort by name.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TIE_RULE = "candidates that tie with the target count as ranked above it"
# Scores of one block: 96 MB of float32. With a million features of width 256 a process stays below 2 GB.
_BLOCK_SCORES = 24 << 20
# Scores compared at once: 4 MB, about the size of a core's cache.
_CACHED_SCORES = 1 << 20


# Changes the scores of a block of queries in place; removed candidates have -inf. The slice contains the block's rows.
Adjust = Callable[[Float[Tensor, "block gallery"], slice], None]


class Ranking(NamedTuple):
    """Ranks of the targets and lists of the best candidates.

    Attributes:
        rank: rank of each query's target, 0 for the best place, (queries,); -1 if the query has no target.
        subset_rank: rank within the query's subset; -1 if the query has no target or no subset.
        top: columns of the best candidates, best first, (queries, k).
        top_scores: scores of the best candidates, (queries, k).
        subset_top: positions within the subset, best first, (queries, members); removed members come last.
        target_ranks: ranks of all targets of a query, best first, (queries, targets), padded with -1; see the function
            `target_ranks`.
    """

    rank: Int[Tensor, " queries"]
    subset_rank: Int[Tensor, " queries"]
    top: Int[Tensor, "queries k"]
    top_scores: Float[Tensor, "queries k"]
    subset_top: Int[Tensor, "queries members"]
    target_ranks: Int[Tensor, "queries targets"]


def target_rank(
    scores: Float[Tensor, "queries gallery"], target_index: Int[Tensor, " queries"]
) -> Int[Tensor, " queries"]:
    """The number of other candidates that score at least as high as the target; -1 where `target_index` is -1."""
    own = scores.gather(1, target_index.clamp(min=0)[:, None])
    rank = torch.empty_like(target_index)
    # Counting while the comparisons of a block are in the cache takes a fifth of the time of one count over all scores.
    for rows in query_blocks(len(scores), scores.shape[1], _CACHED_SCORES):
        rank[rows] = (scores[rows] >= own[rows]).sum(dim=1, dtype=torch.int32).long() - 1
    return torch.where(target_index < 0, -1, rank)


def target_ranks(
    scores: Float[Tensor, "queries gallery"], target_index: Int[Tensor, "queries targets"]
) -> Int[Tensor, "queries targets"]:
    """The ranks of all targets of a query, best first; padding (-1) comes last.

    Candidates that tie with a target count as ranked above it; targets that tie with each other take consecutive
    ranks.
    """
    above = torch.stack([target_rank(scores, column) for column in target_index.T], dim=1)
    padding = target_index < 0
    own = scores.gather(1, target_index.clamp(min=0)).masked_fill(padding, torch.nan)  # NaN compares false
    targets_above = (own[:, None, :] >= own[:, :, None]).sum(dim=2) - 1
    others = (above - targets_above).masked_fill(padding, torch.iinfo(torch.long).max).sort(dim=1).values
    places = others + torch.arange(others.shape[1], device=others.device)
    return places.masked_fill(padding.sort(dim=1).values, -1)


def top_candidates(
    scores: Float[Tensor, "queries gallery"], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Scores and columns of the k best candidates, best first; equal scores in the order of the columns."""
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    # If the last of the k ties with the next, topk does not specify which columns it returns.
    crowded = torch.nonzero(values[:, k - 1] == values[:, -1])[:, 0] if k < scores.shape[1] else ()
    columns = columns[:, :k]
    if len(crowded):
        columns[crowded] = scores[crowded].argsort(dim=1, descending=True, stable=True)[:, :k]
    columns = columns.sort(dim=1).values
    values = scores.gather(1, columns)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def rank_gallery(
    score: Callable[[Tensor, Tensor], Float[Tensor, "queries gallery"]],
    queries: Float[Tensor, "queries dim"],
    targets: Tensor,
    target_index: Int[Tensor, " queries"],
    removed_index: Int[Tensor, " queries"] | None = None,
    subset_index: Int[Tensor, "queries members"] | None = None,
    top: int = 50,
    other_index: Int[Tensor, "queries others"] | None = None,
    within_subsets: bool = False,
    adjust: Adjust | None = None,
) -> Ranking:
    """Ranks every query's targets over a gallery without holding the whole score matrix of a large gallery.

    Args:
        score: similarity of a block of queries with all candidates.
        queries: unit norm.
        targets: features of the gallery.
        target_index: column of each query's target; -1: none.
        removed_index: column removed from each query's ranking (its reference); -1: none; None: keep all.
        subset_index: columns of each query's subset, -1 for padding.
        top: number of best candidates to list; at most the size of the gallery.
        other_index: columns of each query's further targets, -1 for padding; None: no query has any.
        within_subsets: whether only the columns of its subset are kept in a query's ranking.
        adjust: changes the scores of each block before they are ranked; None: none.

    Returns:
        The ranks and top lists, on the CPU.
    """
    device = targets.device
    target_index = target_index.to(device)
    if subset_index is None:
        subset_index = target_index.new_full((len(queries), 0), -1)
    parts = []
    for rows in query_blocks(len(queries), len(targets)):
        scores = score(queries[rows], targets)
        if removed_index is not None:
            _remove(scores, removed_index[rows].to(device))
        if within_subsets:
            _keep(scores, subset_index[rows].to(device))
        if adjust is not None:
            adjust(scores, rows)
        wanted = target_index[rows]
        values, columns = top_candidates(scores, min(top, len(targets)))
        subset_rank, subset_top = _rank_subset(scores, wanted, subset_index[rows].to(device))
        rank = places = target_rank(scores, wanted)
        if other_index is not None:
            places = target_ranks(scores, torch.cat([wanted[:, None], other_index[rows].to(device)], dim=1))
        part = Ranking(rank, subset_rank, columns, values, subset_top, places.reshape(len(rank), -1))
        parts.append([field.cpu() for field in part])
    return Ranking(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def above_target(
    score: Callable[[Tensor, Tensor], Float[Tensor, "queries gallery"]],
    queries: Float[Tensor, "queries dim"],
    targets: Tensor,
    target_index: Int[Tensor, " queries"],
    others: Int[Tensor, "queries others"],
) -> Bool[Tensor, "queries others"]:
    """Whether the given candidates of each query score at least as high as its target.

    Args:
        score: similarity of a block of queries with all candidates.
        queries: unit norm.
        targets: features of the gallery.
        target_index: column of each query's target.
        others: columns of the candidates, -1 for padding.

    Returns:
        One value for each candidate, on the CPU; False for padding.
    """
    parts = [torch.zeros((0, others.shape[1]), dtype=torch.bool)]
    for rows in query_blocks(len(queries), len(targets)):
        scores, asked = score(queries[rows], targets), others[rows].to(targets.device)
        own = scores.gather(1, target_index[rows, None].to(targets.device))
        parts.append(((scores.gather(1, asked.clamp(min=0)) >= own) & (asked >= 0)).cpu())
    return torch.cat(parts)


def query_blocks(queries: int, gallery: int, scores: int | None = None) -> Iterator[slice]:
    """Slices of queries with about `scores` scores each; None is the size of a block of a ranking."""
    rows = max(1, (scores or _BLOCK_SCORES) // max(gallery, 1))
    for start in range(0, queries, rows):
        yield slice(start, start + rows)


def _remove(scores: Float[Tensor, "queries gallery"], removed: Int[Tensor, " queries"]) -> None:
    """Removes one column of each query from the ranking, in place."""
    rows = torch.nonzero(removed >= 0)[:, 0]
    scores[rows, removed[rows]] = -torch.inf


def _keep(scores: Float[Tensor, "queries gallery"], kept: Int[Tensor, "queries members"]) -> None:
    """Removes all columns except the given ones from each query's ranking, in place."""
    rows, members = torch.nonzero(kept >= 0, as_tuple=True)
    others = torch.ones_like(scores, dtype=torch.bool)
    others[rows, kept[rows, members]] = False
    scores.masked_fill_(others, -torch.inf)


def _rank_subset(
    scores: Float[Tensor, "queries gallery"],
    target_index: Int[Tensor, " queries"],
    subset_index: Int[Tensor, "queries members"],
) -> tuple[Int[Tensor, " queries"], Int[Tensor, "queries members"]]:
    """Rank of the target within the subset, and the positions of the subset, best first."""
    members = scores.gather(1, subset_index.clamp(min=0)).masked_fill(subset_index < 0, -torch.inf)
    position = (subset_index == target_index[:, None]) & (subset_index >= 0)
    present = position.any(dim=1)
    place = position.int().argmax(dim=1) if subset_index.shape[1] else torch.zeros_like(target_index)
    order = members.sort(dim=1, descending=True, stable=True).indices
    rank = target_rank(members, place) if subset_index.shape[1] else place - 1
    return torch.where(present, rank, -1), order
