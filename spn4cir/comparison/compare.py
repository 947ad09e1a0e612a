"""Compares runs query by query: differences with paired bootstrap intervals, queries won and lost."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spn4cir.comparison.bootstrap import bootstrap_intervals
from spn4cir.comparison.runs import Place, Run, read_runs
from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import FEWEST
from spn4cir.evaluation.score_recipe import part_values

# Seed of the draws of all intervals.
SEED = 0
# Entries of the protocol that may differ without a warning, because they belong to the network.
_OF_THE_NETWORK = ("family", "preprocess", "composition")


class Difference(NamedTuple):
    """One score of two runs, in percent.

    Attributes:
        a: score of the first run.
        b: score of the second run.
        difference: b minus a.
        low: lower end of the 95 % interval of the difference.
        high: upper end of the interval.
        won: number of queries that only b finds within k, or answers with higher precision; None for a mean over
            several k.
        lost: number of queries that only a finds, or answers with higher precision; None for a mean over several k.
        few: whether there are too few queries for a reliable interval.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    won: int | None
    lost: int | None
    few: bool

    @property
    def within_noise(self) -> bool:
        """Whether the interval contains 0."""
        return self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """Whether b is `better` or `worse`, or why that is not known: `too few queries` or `within noise`."""
        if self.few:
            return "too few queries"
        if self.within_noise:
            return "within noise"
        return "better" if self.difference > 0 else "worse"

    def as_dict(self) -> dict[str, float | str]:
        """The values that are written to a file."""
        return {name: getattr(self, name) for name in ("a", "b", "difference", "low", "high", "verdict")}


class Comparison(NamedTuple):
    """Two runs over the same queries.

    Attributes:
        scores: the differences by name of the score.
        better: number of queries that b ranks higher.
        worse: number of queries that b ranks lower.
        queries: number of queries.
        warnings: differences of the protocols.
    """

    scores: dict[str, Difference]
    better: int
    worse: int
    queries: int
    warnings: tuple[str, ...]


class ComparedRuns(NamedTuple):
    """Two runs of one data set and family.

    Attributes:
        place: data set and family.
        a: the first run.
        b: the second run.
        comparison: the comparison of the two.
    """

    place: Place
    a: Run
    b: Run
    comparison: Comparison

    @property
    def title(self) -> str:
        """Data set and family, as in `fiq/clip`."""
        return "/".join(self.place)


def compare_runs(a: Run, b: Run) -> Comparison:
    """Compares run b with run a.

    Raises InputError if their queries or their scores are not the same.
    """
    _require_same_queries(a, b)
    intervals = bootstrap_intervals(a.ranks, b.ranks, a.recipe, SEED)
    scores = {
        score: Difference(
            a.scores[score],
            b.scores[score],
            b.scores[score] - a.scores[score],
            *ends,
            *_moved(a, b, score),
            _few(a, score),
        )
        for score, ends in intervals.items()
    }
    ranks = [np.array(run.table["rank"].to_pylist()) for run in (a, b)]
    better, worse = int(np.sum(ranks[1] < ranks[0])), int(np.sum(ranks[1] > ranks[0]))
    return Comparison(scores, better, worse, len(ranks[0]), tuple(_protocol_differences(a, b)))


def _require_same_queries(a: Run, b: Run) -> None:
    if a.queries != b.queries:
        alone = [len(set(x.queries) - set(y.queries)) for x, y in ((a, b), (b, a))]
        raise InputError(
            f"{a.label} and {b.label}: their queries differ ({alone[0]} of {len(a.queries)} are only in the first, "
            f"{alone[1]} of {len(b.queries)} only in the second); compare runs over the same data set and split"
        )
    if a.recipe != b.recipe:
        raise InputError(f"{a.label} and {b.label}: their scores are computed differently; validate both on one layout")


def _moved(a: Run, b: Run, score: str) -> tuple[int | None, int | None]:
    """The numbers of queries that b answers better and that a answers better; None for a score over several k."""
    parts = list(a.recipe[score])
    if len({(part.column, part.k) for part in parts}) > 1:
        return None, None
    values = [np.concatenate([part_values(run.ranks, part) for part in parts]) for run in (a, b)]
    return int(np.sum(values[1] > values[0])), int(np.sum(values[0] > values[1]))


def _few(run: Run, score: str) -> bool:
    splits = {part.split for part in run.recipe[score]}
    return sum(query[0] in splits for query in run.queries) < FEWEST


def _protocol_differences(a: Run, b: Run) -> list[str]:
    first, second = (run.metrics["protocol"] for run in (a, b))
    aspects = [key for key in {**first, **second} if key not in _OF_THE_NETWORK and first.get(key) != second.get(key)]
    differing = [f"{key}: {first.get(key)} / {second.get(key)}" for key in aspects]
    sizes = [run.metrics["counts"]["gallery"] for run in (a, b)]
    return differing + ([f"gallery sizes: {sizes[0]} / {sizes[1]}"] if sizes[0] != sizes[1] else [])


def find_pairs(names: Sequence[str], dataset: str | None, family: str | None) -> list[tuple[Place, list[Run]]]:
    """The runs to compare: for each data set and family, one run for each name, in the order of the names.

    A revision contains many runs; those that all names have in common are compared. A metrics file is one run; it is
    compared with a revision's run of the same data set and family, or with the revision's only run.

    Args:
        names: metrics files, revisions or experiments.
        dataset: restricts revisions to this data set.
        family: restricts revisions to this family.

    Raises:
        InputError: a name cannot be read, or the names have no run in common.
    """
    found = [find_runs(name, dataset, family) for name in names]
    places = [place for place in found[0] if all(place in runs for runs in found)]
    if places:
        return [(place, [runs[place] for runs in found]) for place in places]
    if all(len(runs) == 1 for runs in found):
        singles = [next(iter(runs.values())) for runs in found]
        return [(singles[0].place, singles)]
    held = "; ".join(
        f"{name}: {', '.join('/'.join(place) for place in runs)}" for name, runs in zip(names, found, strict=True)
    )
    raise InputError(f"no data set and family in common ({held}); select them by --dataset and --family, or name files")


def find_runs(name: str, dataset: str | None, family: str | None) -> dict[Place, Run]:
    """The runs of a name, restricted to the data set and family if it has several. Raises InputError if none remain."""
    runs = read_runs(name)
    kept = {place: run for place, run in runs.items() if dataset in (None, place[0]) and family in (None, place[1])}
    if not kept and len(runs) > 1:
        held = ", ".join("/".join(place) for place in runs)
        raise InputError(f"{name}: has no run of that data set and family; it has {held}; choose one of them")
    return kept or runs
