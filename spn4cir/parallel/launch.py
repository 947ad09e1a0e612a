"""Starts the processes of a training by torch.distributed.run, and waits for them."""

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Any

from spn4cir.cores import usable_cores
from spn4cir.errors import InputError, first_line
from spn4cir.started import LAUNCHED, STARTED_BY

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# Level of the messages of torch's C++ code, which reads it when torch is imported. Below ERROR, the end of another
# machine is a stack trace.
_CPP_LEVEL = "TORCH_CPP_LOG_LEVEL"
# What transports of torch.distributed add to the reason: the place in their code before it, and advice after it.
_ADVICE = re.compile(r"^\[/\S+:\d+\] |\. This is typically caused by .*")
_AGAIN = "run the stage again: it continues after the last finished epoch"


def machines() -> int:
    """Number of machines of the training, which a prefix or its script sets for torchrun; 1 if it sets a range."""
    asked = os.environ.get("PET_NNODES", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else 1


def trains_alone() -> bool:
    """Whether this machine is the only one of the training; a range of machines may become more than one."""
    return os.environ.get("PET_NNODES", "1") in ("", "1")


def launch(prefix: str, module: str, arguments: Sequence[str]) -> None:
    """Runs `python -m MODULE ARGUMENTS` by a prefix, as in `srun --nodes=2`, and waits for it.

    Args:
        prefix: the setting `machine.launch`.
        module: name of the module.
        arguments: its arguments.

    Raises:
        InputError: the prefix is no command, or the command fails.
    """
    try:
        words = shlex.split(prefix)
    except ValueError as error:
        raise InputError(f"machine.launch: {prefix}: {error}; correct its quotes, or set null") from None
    # `env`: a prefix such as ssh starts the command without this process's environment.
    variables = [f"{LAUNCHED}=1", f"{_CPP_LEVEL}={os.environ.get(_CPP_LEVEL, 'ERROR')}"]
    command = [*words, "env", *variables, sys.executable, "-m", module, *arguments]
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        raise InputError(
            f"machine.launch: {command[0]}: {error.strerror}; set a prefix that starts a command, or null"
        ) from None

    status = _waited(process)
    if -status in (signal.SIGTERM, signal.SIGKILL):
        raise InputError(f"machine.launch: '{prefix}' was ended by {signal.Signals(-status).name}; {_AGAIN}")
    if status:
        raise InputError(
            f"machine.launch: '{prefix}' ended with status {status}; its messages are above; once their cause is "
            f"mended, {_AGAIN}"
        )


def _waited(process: subprocess.Popen[bytes]) -> int:
    """The status of a command at its end. SIGTERM and Ctrl-C end the command too."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        return process.wait()
    except BaseException:  # Ctrl-C: some prefixes ignore the first one
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def start_processes(count: int, module: str, arguments: Sequence[str]) -> None:
    """Runs `python -m MODULE ARGUMENTS` in several processes and waits for them.

    The processes are those of `torchrun --nproc-per-node COUNT`. Number of machines and rendezvous are torchrun's own
    environment variables: `PET_NNODES`, `PET_RDZV_BACKEND`, `PET_RDZV_ENDPOINT`, `PET_RDZV_ID`.

    Args:
        count: processes on this machine.
        module: name of the module.
        arguments: its arguments.

    Raises:
        InputError: a process fails, with its message; or the machines do not find, or lose, each other.
    """
    os.environ[STARTED_BY] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
    os.environ.setdefault(_CPP_LEVEL, "ERROR")
    from torch import distributed
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    with TemporaryDirectory() as folder, _quiet():
        options = ["--nproc-per-node", str(count), "--max-restarts", "0", "--log-dir", folder]
        try:
            asked = run.parse_args([*options, "--module", module, *arguments])  # type: ignore[no-untyped-call]
            run.run(asked)  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            raise InputError(_reason(error.failures)) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + error.sigval) from None
        except (RendezvousError, distributed.DistError, ValueError) as error:
            raise InputError(_apart(error, Path(folder))) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch's reports of processes that end: many lines, which one line replaces. LOGLEVEL asks for them."""
    if "LOGLEVEL" in os.environ:
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _apart(error: Exception, folder: Path) -> str:
    """The message of a machine that has no connection to the others; torchrun logs into the folder.

    It creates a folder `RUN/attempt_0` there when the machines have found each other and the processes start.
    """
    if any(folder.glob("*/attempt_*")):
        return f"this machine lost another machine of the training ({first_line(error)}); {_AGAIN}"
    return (
        f"the processes did not find each other ({first_line(error)}); check PET_NNODES and PET_RDZV_ENDPOINT in "
        "machine.launch or in the environment"
    )


def _reason(failures: Mapping[int, "ProcessFailure"]) -> str:
    """The message of the process that failed first: the others lost it, or were ended because of it."""
    rank, failure = min(failures.items(), key=lambda item: (_order(item[1]), item[1].timestamp))
    kind, text = _recorded(failure.message)
    if kind == "InputError":
        return text
    if kind == "LostProcess":
        return f"process {rank} lost another process of the training ({_ADVICE.sub('', text)}); {_AGAIN}"
    if failure.exitcode < 0:
        reason = f"was killed ({failure.signal_name()}); free memory if the machine ran out of it"
        return f"process {rank} of the training {reason}, and {_AGAIN}"
    return f"process {rank} of the training ended with status {failure.exitcode}; its messages are above"


def _order(failure: "ProcessFailure") -> int:
    kind, _ = _recorded(failure.message)
    ended = failure.exitcode == -signal.SIGTERM
    return 0 if kind == "InputError" else 2 if kind == "LostProcess" else 3 if ended else 1


def _recorded(message: Any) -> tuple[str, str]:
    """The class and the text of an error that a process recorded; two empty strings if it recorded none."""
    if not isinstance(message, Mapping):
        return "", ""
    kind, _, text = str(message["message"]).partition(": ")
    return kind, text
