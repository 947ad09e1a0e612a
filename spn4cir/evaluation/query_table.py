"""Results query by query: a parquet table and a contact sheet."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.datasets.protocol import Benchmark, Scores
from spn4cir.evaluation.evaluate import TOP, RankedSplit
from spn4cir.evaluation.hard_negatives import Counts
from spn4cir.evaluation.query_columns import STAGE1
from spn4cir.evaluation.score_recipe import RECIPE_KEY, score_recipe, write_recipe
from spn4cir.files import atomic_file
from spn4cir.images.contact_sheet import SheetRow, draw_sheet

_SHOWN = 5
_IDENTITY = pa.schema(
    [
        ("split", pa.string()),
        ("query", pa.int64()),
        ("reference", pa.string()),
        ("text", pa.string()),
        ("target", pa.string()),
    ]
)


def write_queries(
    layout: Benchmark,
    splits: Sequence[RankedSplit],
    path: Path,
    before: Sequence[RankedSplit] | None = None,
    counts: Sequence[Counts] = (),
) -> None:
    """Writes one row for each query: split, query, reference, text, target, rank, subset rank and top names.

    Ranks begin at 1; ranks and top names are those among the candidates of the query. The subset rank is null if a
    query has no subset. If the layout scores all targets of a query, the column `target_ranks` contains their ranks,
    best first. The metadata of the table contains the recipe that computes the scores from the ranks.

    Args:
        layout: layout of the scores.
        splits: ranked queries.
        path: the parquet file.
        before: the queries ranked with the stage-1 weights; adds their ranks and top names in columns that begin with
            `stage1_`.
        counts: hard negatives above the targets; adds the columns `lookalikes_above` and `text_matches_above`.
    """
    rows = [_identity(ranked, query) for ranked in splits for query in range(len(ranked.split.triplets))]
    table = pa.Table.from_pylist(rows, schema=_IDENTITY)
    for beginning, stage in (("", splits), (STAGE1, before or ())):
        for name, column in _answers(layout, stage).items():
            table = table.append_column(f"{beginning}{name}", column)
    for kind in counts[0].above if counts else ():
        above = [number for part in counts for number in part.above[kind].tolist()]
        table = table.append_column(f"{kind}_above", pa.array(above))
    recipe = score_recipe(layout, [ranked.split.name for ranked in splits])
    table = table.replace_schema_metadata({RECIPE_KEY: write_recipe(recipe)})
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def _identity(ranked: RankedSplit, query: int) -> dict[str, object]:
    triplet = ranked.split.triplets[query]
    return {
        "split": ranked.split.name,
        "query": triplet.query_id,
        "reference": triplet.reference_name,
        "text": ranked.texts[query],
        "target": triplet.target_name,
    }


def _answers(layout: Benchmark, splits: Sequence[RankedSplit]) -> dict[str, pa.Array]:
    """The columns that depend on the weights, in the order of the queries; none without splits."""
    if not splits:
        return {}
    ranks = [rank + 1 for ranked in splits for rank in ranked.ranking.rank.tolist()]
    within = [rank + 1 or None for ranked in splits for rank in ranked.ranking.subset_rank.tolist()]
    top = [ranked.top_names(query)[:TOP] for ranked in splits for query in range(len(ranked.split.triplets))]
    columns = {
        "rank": pa.array(ranks, pa.int64()),
        "subset_rank": pa.array(within, pa.int64()),
        "top": pa.array(top, pa.list_(pa.string())),
    }
    if layout.protocol.map_ks:
        places = [row for ranked in splits for row in ranked.ranking.target_ranks.tolist()]
        columns["target_ranks"] = pa.array(
            [[place + 1 for place in row if place >= 0] for row in places], pa.list_(pa.int64())
        )
    return columns


def queries_entry(queries: Path, metrics: Path) -> dict[str, str]:
    """The entry of a metrics file that names its table of queries, as a path relative to the file's folder."""
    return {"queries": Path(os.path.relpath(queries, metrics.parent)).as_posix()}


def write_recalls(scores: Scores, path: Path) -> None:
    """Writes the flat scores as a table of `metric` and `percent`, which DVC plots as bars."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerows([("metric", "percent"), *scores.items()])


def write_contact_sheet(splits: Sequence[RankedSplit], path: Path, queries: int, title: str) -> None:
    """Draws `queries` queries, evenly spaced over all splits, with their top 5; targets are framed."""
    places = [(ranked, query) for ranked in splits for query in range(len(ranked.split.triplets))]
    count = min(queries, len(places))
    chosen = [places[position * len(places) // count] for position in range(count)]
    draw_sheet([_sheet_row(ranked, query) for ranked, query in chosen], title, path)


def _sheet_row(ranked: RankedSplit, query: int) -> SheetRow:
    triplet = ranked.split.triplets[query]
    gallery = ranked.split.gallery
    names = ranked.top_names(query)[:_SHOWN]
    scores = ranked.ranking.top_scores[query].tolist()
    return SheetRow(
        reference=ranked.split.places[triplet.reference_name],
        text=ranked.texts[query],
        note=f"target at {int(ranked.ranking.rank[query]) + 1} of {ranked.candidates(query)}",
        results=[gallery.paths[gallery.index[name]] for name in names],
        labels=[f"{place}   {score:.3f}" for place, (_, score) in enumerate(zip(names, scores, strict=False), start=1)],
        targets=[place for place, name in enumerate(names) if name in triplet.target_names],
    )
