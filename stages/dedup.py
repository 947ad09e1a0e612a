"""dedup: the unique images of the annotated training triplets."""

from pathlib import Path

from spn4cir.config.params import of_dataset
from spn4cir.datasets.records import present_gallery
from spn4cir.images.ray_cluster import workers_of
from spn4cir.json_files import write_json
from spn4cir.positives.dedup import deduplicate, read_optimized_images, write_optimized_images
from stages import published
from stages.common import Job, run
from stages.inputs import data_hash
from stages.work import clear_others, code_hash, work_folder


def main(job: Job) -> None:
    """Writes `data/dedup/<dataset>/{optimized_images.json, source.json}`."""
    settings = of_dataset(job.params.dedup, job.dataset, "dedup")
    layout = job.layout()
    if settings.source == "make":
        # Of a layout that does not outlive the call: it keeps all triplets.
        unique = deduplicate(job.layout().training_gallery(), workers_of(job.params.machine), _work(job))
        write_optimized_images(unique, job.dedup_file)
        write_json(job.shared("dedup") / "source.json", {"source": "make"}, indent=2)
    else:
        path, origin = published.find(job, settings.source, layout.names.unique, settings.hub)
        unique = read_optimized_images(path, layout.image_path)
        published.take(path, origin, job.dedup_file)
        missing = of_dataset(job.params.datasets, job.dataset, "datasets").missing
        if missing == "skip":
            names = list(unique.row)
            usable, left_out = present_gallery(names, [layout.image_path(name) for name in names], missing, path)
            if left_out:
                unique = unique.restrict(usable)
                write_optimized_images(unique, job.dedup_file)
    print(f"dedup: {len(unique.row):,} images, {len(unique.row) - len(unique.gallery):,} of them duplicates")


def _work(job: Job) -> Path:
    """The folder of an interrupted run with the same images."""
    settings = of_dataset(job.params.datasets, job.dataset, "datasets")
    work = work_folder(
        job.work("dedup"),
        {"settings": settings.model_dump(), "images": data_hash(job), "code": code_hash(job, "dedup")},
    )
    clear_others(work)
    return work


if __name__ == "__main__":
    run(main, ("DATASET",))
