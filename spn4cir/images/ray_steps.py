"""The steps of a Ray dataset: what its workers do with a row, which is a batch of images."""

import os
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from spn4cir.errors import InputError
from spn4cir.images.reading import is_there
from spn4cir.images.workers import ImageBatch

Result = TypeVar("Result")
Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a worker returns for a batch.

    Attributes:
        value: the result; None after an error.
        error: the error, or None.
        unseen: files of the batch that are absent on the worker's machine.
        node: name of the machine.
    """

    value: Any
    error: Exception | None
    unseen: tuple[Path, ...]
    node: str


def map_files(function: Callable[[Path], Result], batch: ImageBatch) -> list[Result]:
    """Returns the function's result for each path of a batch."""
    return [function(path) for path in batch.paths]


@dataclass(frozen=True)
class DecodeStep:
    """The decoding of a row, on a worker.

    Attributes:
        function: the work on a batch.
        folder: the folder of the calling process; relative paths start there.
    """

    function: Callable[[ImageBatch], Any]
    folder: Path

    def __call__(self, row: Row) -> Row:
        """Returns the outcome of a batch; an error is a part of it."""
        batch: ImageBatch = pickle.loads(row["value"])  # noqa: S301 - as above
        _enter(self.folder)
        unseen = tuple(path for path in batch.paths if not is_seen(path))
        return _row(partial(self.function, batch), unseen)


def _enter(folder: Path) -> None:
    """Makes relative paths those of the calling process. Where the folder is absent, its files are unseen."""
    with suppress(OSError):
        os.chdir(folder)


def _row(call: Callable[[], Any], unseen: tuple[Path, ...] = ()) -> Row:
    """Returns the outcome of a call as a row."""
    value: Any = None
    error: Exception | None = None
    try:
        value = call()
    except (InputError, OSError) as raised:
        error = raised
    return {"value": pickle.dumps(Outcome(value, error, unseen, socket.gethostname()))}


def is_seen(path: Path) -> bool:
    """Returns whether a path exists on this machine."""
    try:
        return is_there(path)
    except InputError:  # a damaged tar, which the error names
        return True


class NetworkStep:
    """The network of a worker, which is loaded once.

    Args:
        stored: the reference to the function that loads it, in a list so that Ray does not replace it.
        device: kind of device, cpu or cuda.
        threads: number of threads on a CPU.
        step: the decoding.
        decoded: whether rows were decoded before.
    """

    def __init__(self, stored: list[Any], device: str, threads: int, step: DecodeStep, decoded: bool) -> None:
        import ray
        import torch

        from spn4cir.device import choose_device

        _enter(step.folder)
        torch.set_num_threads(threads)
        try:
            self._compute = ray.get(stored[0])(choose_device(device))
        except (InputError, OSError) as error:
            self._compute = partial(_fail, error)
        self._step = None if decoded else step

    def __call__(self, row: Row) -> Row:
        """Returns the outcome of a batch; an error is a part of it."""
        decoded: Outcome = pickle.loads((self._step(row) if self._step else row)["value"])  # noqa: S301 - as above
        if decoded.error or decoded.unseen:
            return {"value": pickle.dumps(decoded)}
        return _row(partial(self._compute, decoded.value))


def _fail(error: Exception, _prepared: Any) -> Any:
    raise error
