"""submit: the submission files for CIRR's test server."""

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_dataset, of_family
from spn4cir.datasets import submittable
from spn4cir.evaluation.submission import predict, write_submission
from spn4cir.files import atomic_folder
from stages.common import Job, run
from stages.device import stage_device


def main(job: Job) -> None:
    """Writes `data/submit/<dataset>/<family>/{recall,recall_subset}_submission_<dataset>_<family>.json`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    device = stage_device(job)
    composer = load_composer(job.place("train") / "best.pt", job.family).to(device)
    layout = submittable(of_dataset(job.params.datasets, job.dataset, "datasets").layout, job.layout())
    predictions = predict(
        composer,
        layout.test_split(),
        layout.submission,
        settings,
        job.params.machine.workers,
        device,
        job.place("submit_gallery"),
    )
    with atomic_folder(job.place("submit")) as folder:
        name = f"{job.dataset}_{job.family}"
        write_submission(predictions, layout.submission, folder, name, *layout.test_queries())


if __name__ == "__main__":
    run(main)
