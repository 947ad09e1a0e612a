"""validate: scores of the stage-2 weights, and of the stage-1 weights for comparison."""

from pathlib import Path

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_dataset, of_family
from spn4cir.evaluation.shortcuts import Probe, probe_of
from spn4cir.evaluation.validate import validate_both
from spn4cir.files import atomic_folder
from stages.adjustments import adjustments
from stages.common import Job, run
from stages.device import stage_device
from stages.inputs import scored_layout
from stages.outcome import write_adjusted, write_metrics, write_tables


def main(job: Job) -> None:
    """Writes `metrics/<dataset>/<family>.json` and `data/validate/<dataset>/<family>/`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    layout = scored_layout(job)
    device = stage_device(job)
    composer = load_composer(job.place("train") / "best.pt", job.family)
    found = validate_both(
        composer,
        load_composer(job.stage1_file, job.family),
        layout,
        settings,
        job.params.machine.workers,
        device,
        _probe(job, layout.root),
        adjustments=adjustments(job, settings, composer, device),
        stored=job.place("gallery"),
    )
    with atomic_folder(job.place("validate")) as folder:
        write_tables(job, layout, settings, found, folder)
        write_adjusted(layout, found, folder / "adjusted")
    write_metrics(job, "validate", layout, settings, composer, found)


def _probe(job: Job, root: Path) -> Probe | None:
    settings = of_dataset(job.params.shortcuts, job.dataset, "shortcuts")
    if not settings.enabled:
        return None
    return probe_of(settings, root / settings.paraphrases if settings.paraphrases else None)


if __name__ == "__main__":
    run(main)
