"""gallery: encodes the images of the validation galleries with the stage-1 weights."""

from spn4cir.config.params import of_family
from stages.common import Job, run
from stages.galleries import write_gallery
from stages.inputs import data_hash, scored_layout


def main(job: Job) -> None:
    """Writes `data/gallery/<dataset>/<family>/{reference.npy, target.npy, manifest.json}`."""
    settings = of_family(job.params.validate_, job.dataset, job.family, "validate")
    splits = scored_layout(job).evaluation_splits()
    write_gallery(job, "gallery", job, splits, settings, data_hash(job))


if __name__ == "__main__":
    run(main)
