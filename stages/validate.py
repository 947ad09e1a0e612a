"""validate: the scores of the stage-2 weights, with those of stage 1 beside them."""

from pathlib import Path

from spn4cir.checkpoints import load_composer
from spn4cir.device import choose_device
from spn4cir.evaluation import metrics_file
from spn4cir.files import atomic_folder, write_json
from spn4cir.outcomes import queries_entry, write_contact_sheet, write_queries, write_recalls
from spn4cir.params import of_dataset, of_family
from spn4cir.shortcuts import Probe, probe_of
from spn4cir.validation import validate_both
from stages.common import Job, run
from stages.learning import scored_layout


def main(job: Job) -> None:
    """Writes `metrics/<dataset>/<family>.json` and `data/validate/<dataset>/<family>/`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    layout = scored_layout(job)
    composer = load_composer(job.place("train") / "best.pt", job.family)
    after, before, shortcuts = validate_both(
        composer,
        load_composer(job.stage1_file, job.family),
        layout,
        settings,
        job.params.machine.workers,
        choose_device(job.params.machine.device),
        _probe(job, layout.root),
    )
    with atomic_folder(job.place("validate")) as folder:
        write_queries(
            layout, after.splits, folder / "queries.parquet", before.splits, shortcuts.counts if shortcuts else ()
        )
        write_recalls(after.scores, folder / "recalls.tsv")
        title = f"{job.dataset}, {job.family}: queries and their top 5 (targets framed)"
        write_contact_sheet(after.splits, folder / "contact_sheet.png", settings.sheet_queries, title)
    metrics = Path("metrics") / job.dataset / f"{job.family}.json"
    named = queries_entry(job.place("validate") / "queries.parquet", metrics)
    content = metrics_file(after, layout, settings, composer, job.family) | {"stage1": before.scores} | named
    if shortcuts is not None:
        content["shortcuts"] = shortcuts.scores
    write_json(metrics, content, indent=2)


def _probe(job: Job, root: Path) -> Probe | None:
    settings = of_dataset(job.params.shortcuts, job.dataset, "shortcuts")
    if not settings.enabled:
        return None
    return probe_of(settings, root / settings.paraphrases if settings.paraphrases else None)


if __name__ == "__main__":
    run(main)
