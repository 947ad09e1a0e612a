"""The results of `make research`: a table of ranks by query for each data set and draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.comparison.runs import table_ranks
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import RECIPE_KEY, Ranks, Recipe, part_values, read_recipe
from spn4cir.files import atomic_file

FOLDER = Path("metrics/research")
_RUN = ("row", "seed", "key", "settings", "seconds")
_QUERY = ("split", "query", "rank", "subset_rank", "target_ranks")


class Cell(NamedTuple):
    """A row of the table and a seed."""

    row: str
    seed: int


@dataclass(frozen=True)
class Result:
    """The ranks of one row and seed on one data set.

    Attributes:
        key: hash of everything that the ranks were computed from.
        settings: settings of the row, for readers.
        seconds: running time of stage 2; None if DVC took it from its cache.
        table: columns `split`, `query`, `rank`, `subset_rank` and, for several targets, `target_ranks`; the metadata
            contains the recipe of the scores.
    """

    key: str
    settings: str
    seconds: float | None
    table: pa.Table

    @cached_property
    def ranks(self) -> Ranks:
        """Ranks by split and column."""
        return table_ranks(self.table)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that computes the scores from the ranks."""
        return read_recipe(self.table.schema.metadata[RECIPE_KEY])

    @cached_property
    def scores(self) -> dict[str, float]:
        """The scores, in percent."""
        return {
            score: 100 * sum(weight * float(part_values(self.ranks, part).mean()) for part, weight in parts.items())
            for score, parts in self.recipe.items()
        }


def result_of(key: str, settings: str, seconds: float | None, queries: pa.Table) -> Result:
    """Returns a result from the table of queries of a run; only the columns of the ranks are kept."""
    return Result(key, settings, seconds, queries.select([name for name in _QUERY if name in queries.column_names]))


def results_file(dataset: str, draw: int, folder: Path = FOLDER) -> Path:
    """Returns the file of a data set and draw."""
    return folder / (f"{dataset}.parquet" if draw == 1 else f"{dataset}-draw{draw}.parquet")


def read_results(path: Path) -> dict[Cell, Result]:
    """Reads the results of a file, in its order; none if it is absent. Raises InputError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is not a table of results ({reason}); remove it, and its rows run again") from None
    if lacking := {*_RUN, *_QUERY[:-1]} - set(table.column_names):
        raise InputError(f"{path}: has no column '{min(lacking)}'; remove it, and its rows run again")
    found = {}
    start = 0
    for row, seed, key, settings, seconds, count in _runs(table):
        part = table.slice(start, count).select([name for name in _QUERY if name in table.column_names])
        found[Cell(row, seed)] = Result(key, settings, seconds, part)
        start += count
    return found


def write_results(path: Path, results: Mapping[Cell, Result]) -> None:
    """Writes a file whole."""
    tables = [_with_run(cell, result) for cell, result in results.items()]
    with atomic_file(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary, compression="zstd")


def add_results(path: Path, results: Mapping[Cell, Result]) -> None:
    """Adds results to a file and replaces those of equal rows and seeds."""
    write_results(path, read_results(path) | dict(results))


def _with_run(cell: Cell, result: Result) -> pa.Table:
    table = result.table
    columns: Iterable[tuple[str, object, pa.DataType]] = (
        ("row", cell.row, pa.string()),
        ("seed", cell.seed, pa.int64()),
        ("key", result.key, pa.string()),
        ("settings", result.settings, pa.string()),
        ("seconds", result.seconds, pa.float64()),
    )
    for place, (name, value, kind) in enumerate(columns):
        table = table.add_column(place, pa.field(name, kind), pa.repeat(pa.scalar(value, kind), len(table)))
    return table


def _runs(table: pa.Table) -> Iterator[tuple[str, int, str, str, float | None, int]]:
    """Yields row, seed, key, settings, seconds and number of queries of each run of a file, in its order."""
    counted = table.group_by(list(_RUN), use_threads=False).aggregate([("query", "count")])
    yield from zip(*(counted[name].to_pylist() for name in (*_RUN, "query_count")), strict=True)
