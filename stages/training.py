"""Inputs of both training stages: triplets, validation, and the folder of an unfinished run."""

from pathlib import Path
from typing import Any

from spn4cir.config.params import of_family
from spn4cir.config.training import CheckpointSettings, Train
from spn4cir.training.figures import Figures
from spn4cir.training.setup import TrainingSetup
from spn4cir.types import Triplet
from stages.common import Job
from stages.device import stage_device
from stages.inputs import scored_layout
from stages.work import clear_others, code_hash, work_folder


def training_setup(
    job: Job,
    stage: str,
    settings: CheckpointSettings | Train,
    inputs: dict[str, Any],
    triplets: tuple[Triplet, ...],
    stored: Path | None = None,
) -> TrainingSetup:
    """Builds the setup of a training stage, and removes the stage's unfinished runs with other settings or inputs.

    Args:
        job: data set and family.
        stage: `checkpoint` or `train`.
        settings: all settings of the stage.
        inputs: hashes of the other inputs that the weights depend on.
        triplets: triplets to train on.
        stored: stored features of the validation images, if the stage does not change them.
    """
    device = stage_device(job)
    protocol = of_family(job.params.validate_, job.dataset, job.family, "validate")
    work = work_folder(
        job.work(stage),
        {
            **inputs,
            "settings": settings.model_dump(),
            "validate": protocol.model_dump(),
            "seed": job.params.seed,
            "code": code_hash(job, stage),
            "device": device.type,
        },
    )
    clear_others(work)
    return TrainingSetup(
        scored_layout(job),
        triplets,
        protocol,
        job.params.seed,
        work,
        job.params.machine.workers,
        device,
        Figures(work / "live").update,
        stored,
    )
