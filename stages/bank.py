"""bank: encodes reference and target features of every unique training image with the stage-1 weights."""

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_family
from spn4cir.files import file_hash
from spn4cir.training.bank import build_bank
from stages.common import Job, run
from stages.image_workers import image_workers
from stages.inputs import data_hash, unique_images
from stages.work import clear_others, code_hash, work_folder


def main(job: Job) -> None:
    """Writes `data/bank/<dataset>/<family>/{reference.npy, target.npy, manifest.json}`."""
    settings = of_family(job.params.bank, job.dataset, job.family, "bank")
    workers, device = image_workers(job)
    work = work_folder(
        job.work("bank"),
        {
            "settings": settings.model_dump(),
            "weights": file_hash(job.stage1_file),
            "images": [file_hash(job.dedup_file), file_hash(job.listing_file), data_hash(job)],
            "code": code_hash(job, "bank"),
            "device": device.type,
        },
    )
    clear_others(work)
    build_bank(
        load_composer(job.stage1_file, job.family),
        unique_images(job, settings.images),
        settings,
        job.place("bank"),
        work,
        workers,
        device,
    )


if __name__ == "__main__":
    run(main)
