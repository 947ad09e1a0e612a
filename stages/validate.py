"""validate: the scores of the stage-2 weights, with those of stage 1 beside them."""

from pathlib import Path

from spn4cir.checkpoints import load_composer
from spn4cir.device import choose_device
from spn4cir.evaluation import metrics_file
from spn4cir.files import atomic_folder, write_json
from spn4cir.outcomes import write_contact_sheet, write_queries
from spn4cir.params import of_family
from spn4cir.validation import validate_both
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `metrics/<dataset>/<family>.json` and `data/validate/<dataset>/<family>/`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    layout = job.layout()
    composer = load_composer(job.place("train") / "best.pt", job.family)
    after, before = validate_both(
        composer,
        load_composer(job.stage1_file, job.family),
        layout,
        settings,
        job.params.machine.workers,
        choose_device(job.params.machine.device),
    )
    with atomic_folder(job.place("validate")) as folder:
        write_queries(after.splits, folder / "queries.parquet", before.splits)
        title = f"{job.dataset}, {job.family}: queries and their top 5 (targets framed)"
        write_contact_sheet(after.splits, folder / "contact_sheet.png", settings.sheet_queries, title)
    content = metrics_file(after, layout, settings, composer, job.family) | {"stage1": before.scores}
    write_json(Path("metrics") / job.dataset / f"{job.family}.json", content, indent=2)


if __name__ == "__main__":
    run(main)
