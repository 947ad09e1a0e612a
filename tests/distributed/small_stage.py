"""A stage with the small training: `python -m tests.distributed.small_stage FOLDER stub`.

It reads `params.yaml` of the current folder, and writes `history.json` and `pid-RANK` there. The environment variable
FAULT makes process 1 fail once an epoch is stored: `killed`, `input_error` or `bug`; or wait (`endless`).
"""

import json
import os
import signal
from pathlib import Path
from threading import Event
from typing import Any

import spn4cir.training.trainer
from spn4cir.errors import InputError
from spn4cir.parallel import Group
from stages.common import Job, run
from stages.training import GlobalBatch, in_processes
from tests.distributed import small_training

WORK = Path("work")


def main(job: Job) -> None:
    in_processes(job, GlobalBatch("batch_size", small_training.BATCH), _train)


def _train(job: Job, group: Group) -> None:
    Path(f"pid-{group.rank}").write_text(str(os.getpid()))
    if group.rank == 1:
        _prepare_fault(os.environ.get("FAULT", ""))
    history = small_training.train(Path(job.dataset), WORK, group)
    if group.first:
        Path("history.json").write_text(json.dumps(history))


def _prepare_fault(kind: str) -> None:
    real = spn4cir.training.trainer.set_dropout

    def begin_epoch(*arguments: Any) -> None:
        if kind and (WORK / "state.pt").exists():
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "endless":
                Event().wait()
            raise InputError("the GPU of process 1 is full") if kind == "input_error" else ZeroDivisionError("a bug")
        real(*arguments)

    spn4cir.training.trainer.set_dropout = begin_epoch


if __name__ == "__main__":
    run(main)
