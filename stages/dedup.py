"""dedup: the unique images that annotated training triplets name."""

from spn4cir.dedup import deduplicate, write_optimized_images
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `data/dedup/<dataset>/optimized_images.json`."""
    unique = deduplicate(job.layout().training_gallery(), job.params.machine.workers)
    write_optimized_images(unique, job.dedup_file)
    print(f"dedup: {len(unique.row)} images, {len(unique.row) - len(unique.gallery)} of them duplicates")


if __name__ == "__main__":
    run(main, shared=True)
