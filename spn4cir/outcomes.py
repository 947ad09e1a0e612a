"""What came out query by query: a parquet table and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.evaluation import TOP, RankedSplit
from spn4cir.files import atomic_file
from spn4cir.sheets import SheetRow, draw_sheet

_SHOWN = 5


def write_queries(splits: Sequence[RankedSplit], path: Path, before: Sequence[RankedSplit] | None = None) -> None:
    """Writes one row a query: split, query, reference, text, target, rank (1 is the best place), top names.

    Args:
        splits: ranked queries.
        path: the parquet file.
        before: the same queries ranked by the stage-1 weights; adds the column `stage1_rank`.
    """
    rows = [_row(ranked, query) for ranked in splits for query in range(len(ranked.split.triplets))]
    table = pa.Table.from_pylist(rows)
    if before is not None:
        ranks = [rank + 1 for ranked in before for rank in ranked.ranking.rank.tolist()]
        table = table.append_column("stage1_rank", pa.array(ranks))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def _row(ranked: RankedSplit, query: int) -> dict[str, object]:
    triplet = ranked.split.triplets[query]
    return {
        "split": ranked.split.name,
        "query": triplet.query_id,
        "reference": triplet.reference_name,
        "text": ranked.texts[query],
        "target": triplet.target_name,
        "rank": int(ranked.ranking.rank[query]) + 1,
        "top": ranked.top_names(query)[:TOP],
    }


def write_contact_sheet(splits: Sequence[RankedSplit], path: Path, queries: int, title: str) -> None:
    """Draws queries at even distances through all splits with their top 5, targets framed."""
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
        reference=gallery.paths[gallery.index[triplet.reference_name]],
        text=ranked.texts[query],
        note=f"target at {int(ranked.ranking.rank[query]) + 1} of {len(gallery)}",
        results=[gallery.paths[gallery.index[name]] for name in names],
        labels=[f"{place}   {score:.3f}" for place, (_, score) in enumerate(zip(names, scores, strict=False), start=1)],
        target=names.index(triplet.target_name) if triplet.target_name in names else None,
    )
