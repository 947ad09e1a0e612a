"""One process at a time runs a stage on a data set and family: a second one would write the same files.

DVC waits for the stages of another `dvc repro`, but does not know a stage that outlived its own DVC.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from spn4cir.errors import InputError
from spn4cir.file_locks import is_at, lock_file
from spn4cir.files import disk_errors

_WORK = Path("data", "work")
# The kernel ends a killed process after a moment, which is long for one that holds much memory.
_SECONDS, _PAUSE = 5.0, 0.1


@contextmanager
def claimed(stage: str, items: Sequence[str]) -> Iterator[None]:
    """Holds a stage of this folder for this process, until the end of the block or of the process.

    The lock is one of `spn4cir.file_locks` on `data/work/<stage>/<items>.lock`. Where the file system has no locks,
    nothing is held.

    Args:
        stage: the stage, as in `train`.
        items: its arguments, as in `fiq clip`.

    Raises:
        InputError: another process runs the stage, or the file cannot be written.
    """
    path = _path(stage, items, "lock")
    with disk_errors(path):
        stream = _locked(path, " ".join([f"stages.{stage}", *items]))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        stream.close()
        for folder in (path.parent, _WORK):
            with suppress(OSError):  # it contains work
                folder.rmdir()


@contextmanager
def launching(stage: str, items: Sequence[str]) -> Iterator[None]:
    """Raises InputError at the end of the block unless `launched` was entered in it, by a process of any machine."""
    path = _path(stage, items, "launched")
    path.unlink(missing_ok=True)
    try:
        yield
        if path not in path.parent.iterdir():  # the listing is that of the server, also on a network file system
            raise InputError(
                "machine.launch: the prefix has ended, but did not start the stage; set a prefix that runs the command "
                "after it, or null"
            )
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def launched(stage: str, items: Sequence[str], alone: bool) -> Iterator[None]:
    """Says to `launching` that the stage has started, and holds it until the end of the block.

    Args:
        stage: the stage, as in `train`.
        items: its arguments, as in `fiq clip`.
        alone: whether the training is that of one machine.

    Raises:
        InputError: another process holds it and the training is that of one machine, or the file cannot be written.
    """
    path = _path(stage, items, "launched")
    with disk_errors(path):
        stream = _opened(path)
    with stream:
        if alone and not lock_file(stream):
            raise InputError(
                "machine.launch: the prefix has started this stage twice at a time, and PET_NNODES is not set: each "
                "start would train alone into the same folder; set PET_NNODES, PET_RDZV_BACKEND and PET_RDZV_ENDPOINT "
                "(docs/gpu.md), or let the prefix start it once"
            )
        yield


def _path(stage: str, items: Sequence[str], suffix: str) -> Path:
    return _WORK / stage / f"{'-'.join(items).replace(os.sep, '_')}.{suffix}"


def _locked(path: Path, command: str) -> TextIO:
    """The locked file, which contains the id of this process."""
    deadline = time.monotonic() + _SECONDS
    while True:
        stream = _opened(path)
        if not lock_file(stream):
            owner = stream.read()
            stream.close()
            if time.monotonic() > deadline:
                raise InputError(
                    f"{path}: process {owner or '(unknown)'} runs {command} in this folder; wait for its end, or end it"
                    + (f" with kill {owner}" if owner else "")
                )
            time.sleep(_PAUSE)
        elif is_at(stream, path):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            return stream
        else:
            stream.close()


def _opened(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed the folder
            stream = path.open("a+")
            stream.seek(0)
            return stream
