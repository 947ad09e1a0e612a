"""Counts of queries: outcomes, ranks, and recall by what the text speaks of, by its length and by category."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from spn4cir.comparison.bootstrap import bootstrap_intervals
from spn4cir.comparison.compare import SEED
from spn4cir.comparison.query_pairs import QueryPair
from spn4cir.evaluation.sample_size import FEWEST
from spn4cir.evaluation.score_recipe import Part
from spn4cir.report.text_groups import groups_of, word_groups

Item = TypeVar("Item")
HIT, NEAR_MISS, FAILURE = "hit", "near miss", "failure"
# Upper ends of the bins of ranks; those beyond the worst rank are not used.
_RANKS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_WORDS = (0, 4, 8, 12, 16)


class Gain(NamedTuple):
    """The recall of some queries with the weights of both stages, in percent.

    Attributes:
        stage1: recall of stage 1.
        stage2: recall of stage 2.
        low: lower end of the 95 % interval of the gain, in percentage points.
        high: upper end of the interval.
    """

    stage1: float
    stage2: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Stage 2 minus stage 1."""
        return self.stage2 - self.stage1


@dataclass(frozen=True)
class Share:
    """The recall of a group of queries.

    Attributes:
        label: name of the group.
        queries: number of queries.
        gains: the recall at each k.
    """

    label: str
    queries: int
    gains: tuple[Gain, ...]

    @property
    def few(self) -> bool:
        """Whether the queries are too few for a conclusion."""
        return self.queries < FEWEST


def outcome(query: QueryPair, ks: Sequence[int]) -> str:
    """Returns the outcome of a query: hit, near miss or failure.

    After stage 2, the rank of a hit is at most the smallest k of the layout's recalls, that of a near miss at most the
    largest.
    """
    if query.b.rank <= ks[0]:
        return HIT
    return NEAR_MISS if query.b.rank <= ks[-1] else FAILURE


def spread_out(items: Sequence[Item], count: int) -> list[Item]:
    """Returns at most `count` evenly spaced items."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def examples(queries: Sequence[QueryPair], ks: Sequence[int], kind: str, count: int) -> list[QueryPair]:
    """Returns examples of one outcome: evenly spaced hits, the best near misses, or the worst failures."""
    chosen = [query for query in queries if outcome(query, ks) == kind]
    if kind == HIT:
        return spread_out(chosen, count)
    return sorted(chosen, key=lambda query: query.b.rank, reverse=kind == FAILURE)[:count]


def rank_bins(queries: Sequence[QueryPair]) -> tuple[list[str], list[int], list[int]]:
    """Returns labels of bins of ranks, and the number of queries in each bin for stage 1 and for stage 2."""
    last = max(max(query.b.rank, query.a.rank) for query in queries)
    ends = [end for end in _RANKS if end < last] + [last]
    starts = [1, *(end + 1 for end in ends[:-1])]
    labels = [f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]

    def counts(ranks: Sequence[int]) -> list[int]:
        return [sum(start <= rank <= end for rank in ranks) for start, end in zip(starts, ends, strict=True)]

    return labels, counts([query.a.rank for query in queries]), counts([query.b.rank for query in queries])


def by_length(queries: Sequence[QueryPair], ks: Sequence[int]) -> list[Share]:
    """Returns recalls by the number of words of the text."""
    starts = [0, *(end + 1 for end in _WORDS)]
    bins = [f"{start}-{end}" if start < end else f"{end}" for start, end in zip(starts, _WORDS, strict=False)]
    labels = [*bins, f"{starts[-1]} or more"]

    def label(query: QueryPair) -> list[str]:
        words = len(query.text.split())
        return [next((name for name, end in zip(labels, _WORDS, strict=False) if words <= end), labels[-1])]

    return _shares(queries, ks, label, labels)


def by_category(queries: Sequence[QueryPair], ks: Sequence[int]) -> list[Share]:
    """Returns recalls by split, which is FashionIQ's category."""
    return _shares(queries, ks, lambda query: [query.split], list(dict.fromkeys(query.split for query in queries)))


def by_group(queries: Sequence[QueryPair], ks: Sequence[int]) -> list[Share]:
    """Returns recalls by what the text speaks of; a query may be in several groups, those in none are the last row."""
    none = "none of these"
    return _shares(queries, ks, lambda query: groups_of(query.text) or [none], [*word_groups(), none])


def _shares(
    queries: Sequence[QueryPair],
    ks: Sequence[int],
    labels_of: Callable[[QueryPair], Collection[str]],
    labels: Sequence[str],
) -> list[Share]:
    """Returns the recalls of each label that a query has."""
    groups: dict[str, list[QueryPair]] = {name: [] for name in labels}
    for query in queries:
        for name in labels_of(query):
            groups[name].append(query)
    return [Share(name, len(group), _gains(group, ks)) for name, group in groups.items() if group]


def _gains(queries: Sequence[QueryPair], ks: Sequence[int]) -> tuple[Gain, ...]:
    """Returns the recalls over all queries, whatever their splits, with paired bootstrap intervals."""
    before, after = (np.array(ranks) for ranks in zip(*((q.a.rank, q.b.rank) for q in queries), strict=True))
    recipe = {str(k): {Part("", "rank", k): 1.0} for k in ks}
    intervals = bootstrap_intervals({("", "rank"): before}, {("", "rank"): after}, recipe, SEED)
    return tuple(
        Gain(100.0 * float(np.mean(before <= k)), 100.0 * float(np.mean(after <= k)), *ends)
        for k, ends in zip(ks, intervals.values(), strict=True)
    )
