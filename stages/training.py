"""Inputs of both training stages: triplets, validation, the folder of an unfinished run, and the processes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.config.params import of_family
from spn4cir.config.training import CheckpointSettings, Train
from spn4cir.device import choose_device
from spn4cir.errors import InputError, os_error_line
from spn4cir.parallel import ALONE, Group
from spn4cir.parallel.launch import launch, machines, start_processes, trains_alone
from spn4cir.parallel.worker import device_name, is_worker, joined
from spn4cir.started import is_launched
from spn4cir.training.figures import Figures
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.trainer import unwatched
from spn4cir.types import Triplet
from stages.claim import launched, launching
from stages.common import Job
from stages.device import reserve_gpus, stage_device
from stages.inputs import scored_layout
from stages.work import clear_others, code_hash, work_folder


@dataclass(frozen=True)
class GlobalBatch:
    """The batch of a training, which its processes divide among them.

    Attributes:
        key: the setting of its size.
        size: number of triplets.
    """

    key: str
    size: int

    def check_division(self, processes: int) -> None:
        """Raises InputError if the parts of this number of processes are not equal."""
        if processes > 1 and self.size % processes:
            raise InputError(
                f"{self.key}: {self.size} triplets cannot be divided among {processes} processes (machine.processes); "
                "change one of them"
            )


def in_processes(job: Job, batch: GlobalBatch, train: Callable[[Job, Group], None]) -> None:
    """Runs a training in this process, or runs this stage again in the processes that `machine` asks for.

    Each of these processes calls `train` with its group; the first one writes the outs.

    Raises InputError if the processes cannot divide the batch, before any of them starts, or with the reason if a
    process fails.
    """
    machine = job.params.machine
    arguments = [job.dataset, job.family]
    if is_worker():
        with joined(machine.device) as group:
            batch.check_division(group.size)
            try:
                train(job, group)
            except OSError as error:
                raise InputError(os_error_line(error)) from None
        return
    batch.check_division(machine.processes * (machines() if is_launched() else 1))
    if machine.launch is not None and not is_launched():
        with launching(_stage(), arguments):
            launch(machine.launch, _this_module(), arguments)
    elif machine.launch is not None:
        with launched(_stage(), arguments, trains_alone()):
            _start(job, arguments)
    elif machine.processes > 1:
        _start(job, arguments)
    else:
        train(job, ALONE)


def _start(job: Job, arguments: Sequence[str]) -> None:
    """Runs this stage again in the processes of this machine."""
    count, others = job.params.machine.processes, machines() if is_launched() else 1
    reserve_gpus(job, count)
    if count > 1 or others > 1:
        processes = "1 process" if count == 1 else f"{count} processes"
        among = f", one of {others} machines" if others > 1 else ""
        print(f"machine.processes: this training runs in {processes} of this machine{among}", flush=True)
    start_processes(count, _this_module(), arguments)


def _this_module() -> str:
    """The name of the stage that runs, as `python -m` takes it."""
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    return spec.name


def _stage() -> str:
    return _this_module().rpartition(".")[2]


def training_setup(
    job: Job,
    stage: str,
    settings: CheckpointSettings | Train,
    inputs: Callable[[], dict[str, Any]],
    triplets: Sequence[Triplet],
    group: Group,
    stored: Path | None = None,
) -> TrainingSetup:
    """Builds the setup of a training stage, and removes the stage's unfinished runs with other settings or inputs.

    The key of an unfinished run does not depend on the number of processes: any number resumes it.

    Args:
        job: data set and family.
        stage: `checkpoint` or `train`.
        settings: all settings of the stage.
        inputs: returns hashes of the other inputs that the weights depend on.
        triplets: triplets to train on.
        group: the processes that train together.
        stored: stored features of the validation images, if the stage does not change them.
    """
    device = choose_device(device_name(job.params.machine.device)) if is_worker() else stage_device(job)
    protocol = of_family(job.params.validate_, job.dataset, job.family, "validate")

    def find_work() -> Path:
        work = work_folder(
            job.work(stage),
            {
                **inputs(),
                "settings": settings.model_dump(),
                "validate": protocol.model_dump(),
                "seed": job.params.seed,
                "code": code_hash(job, stage),
                "device": device.type,
            },
        )
        clear_others(work)
        return work

    work = group.from_first(find_work)
    return TrainingSetup(
        scored_layout(job),
        triplets,
        protocol,
        job.params.seed,
        work,
        job.params.machine.workers,
        device,
        Figures(work / "live").update if group.first else unwatched,
        group,
        stored,
        job.params.machine.shard_bank,
    )
