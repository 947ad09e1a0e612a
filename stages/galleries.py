"""Stored features of galleries, which the stages that score read."""

from typing import Any

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import Validate
from spn4cir.evaluation.stored_gallery import images_to_encode, store_gallery
from spn4cir.files import file_hash
from spn4cir.types import EvaluationSplit
from stages.common import Job
from stages.image_workers import image_workers
from stages.work import clear_others, code_hash, work_folder


def write_gallery(
    job: Job, stage: str, trained: Job, splits: tuple[EvaluationSplit, ...], settings: Validate, images: Any
) -> None:
    """Encodes the images of splits with the stage-1 weights, and writes `data/<stage>/<dataset>/<family>/`.

    Args:
        job: data set or benchmark, and family.
        stage: the stage that runs.
        trained: the job whose stage-1 weights encode.
        splits: queries and galleries.
        settings: batch size. It is the one with which the stages that score encode: another one would change the last
            digits of features.
        images: hashes of the files of the images.
    """
    workers, device = image_workers(job)
    gallery, references = images_to_encode(splits)
    work = work_folder(
        job.work(stage),
        {
            "batch_size": settings.batch_size,
            "weights": file_hash(trained.stage1_file),
            "names": [gallery.names, sorted(references)],
            "images": images,
            "code": code_hash(job, stage),
            "device": device.type,
        },
    )
    clear_others(work)
    store_gallery(
        load_composer(trained.stage1_file, job.family),
        gallery,
        references,
        settings.batch_size,
        job.place(stage),
        work,
        workers,
        device,
    )
