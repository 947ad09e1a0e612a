"""submit_gallery: encodes the images of the test server's queries with the stage-1 weights."""

from spn4cir.config.params import of_dataset, of_family
from spn4cir.datasets import submittable
from stages.common import Job, run
from stages.galleries import write_gallery
from stages.inputs import data_hash


def main(job: Job) -> None:
    """Writes `data/submit_gallery/<dataset>/<family>/{reference.npy, target.npy, manifest.json}`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    layout = submittable(of_dataset(job.params.datasets, job.dataset, "datasets").layout, job.layout())
    write_gallery(job, "submit_gallery", job, (layout.test_split(),), settings, data_hash(job))


if __name__ == "__main__":
    run(main)
