"""Counts of queries: outcomes, ranks, and recall by text length and by category."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from spn4cir.report.run import Outcome

Item = TypeVar("Item")
HIT, NEAR_MISS, FAILURE = "hit", "near miss", "failure"
# Upper ends of the bins of ranks; those beyond the worst rank are not used.
_RANKS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_WORDS = (0, 4, 8, 12, 16)


@dataclass(frozen=True)
class Share:
    """The recall of some queries at each k, in percent, with the weights of both stages."""

    label: str
    queries: int
    stage1: tuple[float, ...]
    stage2: tuple[float, ...]


def outcome(query: Outcome, ks: Sequence[int]) -> str:
    """Returns the outcome of a query: hit, near miss or failure.

    The rank of a hit is at most the smallest k of the layout's recalls, that of a near miss at most the largest.
    """
    if query.rank <= ks[0]:
        return HIT
    return NEAR_MISS if query.rank <= ks[-1] else FAILURE


def spread_out(items: Sequence[Item], count: int) -> list[Item]:
    """Returns at most `count` evenly spaced items."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def examples(queries: Sequence[Outcome], ks: Sequence[int], kind: str, count: int) -> list[Outcome]:
    """Returns examples of one outcome: evenly spaced hits, the best near misses, or the worst failures."""
    chosen = [query for query in queries if outcome(query, ks) == kind]
    if kind == HIT:
        return spread_out(chosen, count)
    return sorted(chosen, key=lambda query: query.rank, reverse=kind == FAILURE)[:count]


def rank_bins(queries: Sequence[Outcome]) -> tuple[list[str], list[int], list[int]]:
    """Returns labels of bins of ranks, and the number of queries in each bin for stage 1 and for stage 2."""
    last = max(max(query.rank, query.stage1_rank) for query in queries)
    ends = [end for end in _RANKS if end < last] + [last]
    starts = [1, *(end + 1 for end in ends[:-1])]
    labels = [f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]

    def counts(ranks: Sequence[int]) -> list[int]:
        return [sum(start <= rank <= end for rank in ranks) for start, end in zip(starts, ends, strict=True)]

    return labels, counts([query.stage1_rank for query in queries]), counts([query.rank for query in queries])


def by_length(queries: Sequence[Outcome], ks: Sequence[int]) -> list[Share]:
    """Returns recalls by the number of words of the text."""
    starts = [0, *(end + 1 for end in _WORDS)]
    bins = [f"{start}-{end}" if start < end else f"{end}" for start, end in zip(starts, _WORDS, strict=False)]
    labels = [*bins, f"{starts[-1]} or more"]

    def label(query: Outcome) -> str:
        words = len(query.text.split())
        return next((name for name, end in zip(labels, _WORDS, strict=False) if words <= end), labels[-1])

    return _shares(queries, ks, label, labels)


def by_category(queries: Sequence[Outcome], ks: Sequence[int]) -> list[Share]:
    """Returns recalls by split, which is FashionIQ's category."""
    return _shares(queries, ks, lambda query: query.split, list(dict.fromkeys(query.split for query in queries)))


def _shares(
    queries: Sequence[Outcome], ks: Sequence[int], label: Callable[[Outcome], str], labels: Sequence[str]
) -> list[Share]:
    """Returns the recalls of each label that a query has."""
    groups = {name: [query for query in queries if label(query) == name] for name in labels}
    return [
        Share(name, len(group), _within([q.stage1_rank for q in group], ks), _within([q.rank for q in group], ks))
        for name, group in groups.items()
        if group
    ]


def _within(ranks: Sequence[int], ks: Sequence[int]) -> tuple[float, ...]:
    return tuple(100.0 * sum(rank <= k for rank in ranks) / len(ranks) for k in ks)
