"""One of several processes that train together, as torchrun starts them: its device, its group and its end."""

import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from spn4cir.device import choose_device
from spn4cir.errors import InputError, first_line
from spn4cir.parallel.group import Group
from spn4cir.started import STARTED_BY

# The other processes wait while the first one validates, which may take hours. A process that dies ends the others
# without this limit.
_LONGEST_WAIT = timedelta(days=7)
# The transports of torch.distributed name themselves in their errors. A wrong setting of theirs is another kind.
_TRANSPORT = re.compile(r"gloo|nccl|process ?group", re.IGNORECASE)
_LOST = re.compile(r"closed|reset|timed? ?out|exited|aborted|broken pipe|remote|refused", re.IGNORECASE)
_SECONDS_BETWEEN_LOOKS = 0.2


class LostProcess(Exception):
    """Another process of the group has ended."""


def is_worker() -> bool:
    """Whether torchrun, or a stage, has started this process as one of a group."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def device_name(asked: str) -> str:
    """The device of this process: with `auto` and `cuda`, each process on a machine has a GPU of its own.

    Args:
        asked: the setting `machine.device`.

    Raises:
        InputError: one GPU is asked for and shared by several processes, or there are fewer GPUs than processes.
    """
    if not is_worker() or asked not in ("auto", "cuda") or not torch.cuda.is_available():
        return _not_shared(asked)
    number, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= found:
        raise InputError(
            f"machine.processes: {os.environ['LOCAL_WORLD_SIZE']} processes need as many GPUs, and this machine has "
            f"{found}; lower machine.processes, or set machine.device: cpu"
        )
    return f"cuda:{number}"


def _not_shared(asked: str) -> str:
    if is_worker() and asked.startswith("cuda:") and int(os.environ["LOCAL_WORLD_SIZE"]) > 1:
        raise InputError(
            f"machine.device: {asked} is one GPU, and machine.processes is {os.environ['LOCAL_WORLD_SIZE']}; "
            "set machine.device: cuda, and choose GPUs by CUDA_VISIBLE_DEVICES"
        )
    return asked


@contextmanager
def joined(asked: str) -> Iterator[Group]:
    """Joins the group of processes that torchrun describes in the environment; leaves it at the end.

    Only the first process prints. An InputError is recorded for the process that started this one, which prints it; any
    error ends this process with status 1. The process also ends when the process that started it does.

    Args:
        asked: the setting `machine.device`.
    """
    _end_with(int(os.environ.get(STARTED_BY, os.getppid())))
    with _ends_by_itself():
        device = choose_device(device_name(asked))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
        group = Group(distributed.get_rank(), distributed.get_world_size())
        with ExitStack() as stack:
            if not group.first:
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield group
        distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """Ends this process as soon as `parent` is no longer its parent, so that none is left behind."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


@contextmanager
def _ends_by_itself() -> Iterator[None]:
    """Ends this process at an error, without the end of the interpreter.

    Transports whose other end is gone would delay that, and an interruption is reported by the process that started
    this one.
    """
    try:
        yield
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        if isinstance(error, InputError):
            get_error_handler().record_exception(error)
        elif isinstance(error, distributed.DistError) or _is_of_transport(error):
            get_error_handler().record_exception(LostProcess(first_line(error)))
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _is_of_transport(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, RuntimeError) and bool(_TRANSPORT.search(text) and _LOST.search(text))
