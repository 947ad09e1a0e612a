"""Outs of the stages that score: tables, a contact sheet of queries, the date, and the metrics file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.datasets.protocol import Benchmark
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.evaluation.query_table import queries_entry, write_contact_sheet, write_queries, write_recalls
from spn4cir.evaluation.validate import Validated
from spn4cir.json_files import write_json
from stages.common import Job


def write_tables(job: Job, layout: Benchmark, settings: Validate, found: Validated, folder: Path) -> None:
    """Writes `queries.parquet`, `recalls.tsv`, `contact_sheet.png`, and the date (UTC) in `scored.json`."""
    counts = found.shortcuts.counts if found.shortcuts else ()
    write_queries(layout, found.after.splits, folder / "queries.parquet", found.before.splits, counts)
    write_recalls(found.after.scores, folder / "recalls.tsv")
    title = f"{job.dataset}, {job.family}: queries and their top 5 (targets framed)"
    write_contact_sheet(found.after.splits, folder / "contact_sheet.png", settings.sheet_queries, title)
    write_json(folder / "scored.json", {"date": datetime.now(UTC).date().isoformat()})


def write_adjusted(layout: Benchmark, found: Validated, folder: Path) -> None:
    """Writes a table of queries for each adjustment, e.g. `hubness.parquet`; the folder is empty if there is none."""
    folder.mkdir()
    for name, evaluation in found.adjusted.items():
        write_queries(layout, evaluation.splits, folder / f"{name}.parquet")


def write_metrics(
    job: Job, stage: str, layout: Benchmark, settings: Validate, composer: Composer, found: Validated
) -> None:
    """Writes `metrics/<dataset>/<family>.json`, which names the table of queries in the stage's folder."""
    metrics = Path("metrics") / job.dataset / f"{job.family}.json"
    content: dict[str, Any] = metrics_file(found.after, layout, settings, composer, job.family)
    if job.weights:
        content["protocol"]["weights"] = f"trained on {job.weights}"
    content |= {"stage1": found.before.scores} | queries_entry(job.place(stage) / "queries.parquet", metrics)
    if found.shortcuts is not None:
        content["shortcuts"] = found.shortcuts.scores
    content |= {name: evaluation.scores for name, evaluation in found.adjusted.items()}
    write_json(metrics, content, indent=2)
