"""The figures of the page: means over seeds, differences with intervals, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from demo.research.store import Cell, Result
from spn4cir.comparison.bootstrap import seed_intervals
from spn4cir.errors import InputError

# Seed of the draws of all intervals.
_DRAWS = 0
# A verdict needs intervals without 0 on this many data sets.
_AGREEING = 2

Results = Mapping[Cell, Result]


@dataclass(frozen=True)
class Spread:
    """A score over seeds, in percent: mean and standard deviation; None for one seed."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class PairedChange:
    """The difference of two rows in a score, in percentage points, with the ends of its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is above or below 0; 0 if it contains 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        text = f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        return f"**{text}**" if self.sign else text


def spread(results: Results, row: str, seeds: Sequence[int], score: str) -> Spread:
    """Returns mean and standard deviation of a score of a row over the seeds."""
    values = [results[Cell(row, seed)].scores[score] for seed in seeds]
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)


def seconds(results: Results, row: str, seeds: Sequence[int]) -> float | None:
    """Returns the mean running time of stage 2; None if DVC took every run from its cache."""
    values = [took for seed in seeds if (took := results[Cell(row, seed)].seconds) is not None]
    return mean(values) if values else None


def changes(results: Results, row: str, reference: str, seeds: Sequence[int]) -> dict[str, PairedChange]:
    """Returns the differences of a row's scores from those of another row, paired by seed and by query.

    Raises InputError if the queries of the runs differ.
    """
    before, after = ([results[Cell(name, seed)] for seed in seeds] for name in (reference, row))
    queries = [each.table.select(["split", "query"]) for each in (*before, *after)]
    if any(not other.equals(queries[0]) for other in queries):
        raise InputError(f"rows '{reference}' and '{row}': their queries differ; remove their results and run again")
    intervals = seed_intervals(
        [each.ranks for each in before], [each.ranks for each in after], before[0].recipe, _DRAWS
    )
    return {
        score: PairedChange(
            spread(results, row, seeds, score).mean - spread(results, reference, seeds, score).mean, *ends
        )
        for score, ends in intervals.items()
    }


def verdict(found: Sequence[PairedChange]) -> str:
    """Returns whether a row is better or worse, from its differences on the data sets."""
    signs = [change.sign for change in found]
    if signs.count(1) >= _AGREEING and -1 not in signs:
        return "better"
    if signs.count(-1) >= _AGREEING and 1 not in signs:
        return "worse"
    return "no difference shown"
