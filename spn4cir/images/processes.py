"""A function over many files in processes: results in order, few tasks ahead, and no process survives a killed parent.

joblib's loky is not used: it starts 30 times slower, and its workers outlive a killed parent.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, parent_process
from pathlib import Path
from threading import Thread
from typing import TypeVar

from spn4cir.cores import usable_cores
from spn4cir.errors import InputError
from spn4cir.images.forks import objects_shared
from spn4cir.images.workers import Workers

Result = TypeVar("Result")
_CHUNK = 16
_CHUNKS_AHEAD = 4
_MOST_WORKERS = 8


def default_workers() -> int:
    """Returns the number of cores that this process may use, at most eight."""
    return min(_MOST_WORKERS, usable_cores())


def map_in_processes(
    function: Callable[[Path], Result], paths: Sequence[Path], workers: Workers, label: str
) -> Iterator[Result]:
    """Yields the function's result for each path, in order, with a bounded number of pending tasks.

    Args:
        function: a function at the top level of a module, so that other processes can import it.
        paths: the files.
        workers: number of processes, where 0 calls the function in this one; or a cluster.
        label: name of the work, for the error of a process that was killed.

    Raises:
        InputError: the function raised it, or a process was killed.
        MemoryError: a process has no memory for an image.
    """
    if not isinstance(workers, int):
        yield from workers.map_files(function, paths, label)
        return
    if workers == 0:
        yield from map(function, paths)
        return
    starts = range(0, len(paths), _CHUNK)
    chunks = (paths[start : start + _CHUNK] for start in starts)
    pool = ProcessPoolExecutor(max(1, min(workers, len(starts))), initializer=_follow_parent)
    try:
        with objects_shared():
            with _interrupt_held():
                first = islice(chunks, workers * _CHUNKS_AHEAD)
                pending = deque(pool.submit(_map_chunk, function, chunk) for chunk in first)
            while pending:
                results = pending.popleft().result()
                pending.extend(pool.submit(_map_chunk, function, chunk) for chunk in islice(chunks, 1))
                yield from results
    except InputError as error:
        raise InputError(str(error)) from None  # drops the traceback that the worker attached
    except BrokenProcessPool:
        raise InputError(
            f"{label}: one of {workers} decoding processes was killed (out of memory?); run again with fewer workers"
        ) from None
    finally:
        with _interrupt_held():
            pool.shutdown(cancel_futures=True)


def _map_chunk(function: Callable[[Path], Result], paths: Sequence[Path]) -> list[Result]:
    return [function(path) for path in paths]


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Delays Ctrl-C to the end of the block.

    During the start of the workers, Ctrl-C would leave some of them running. During their shutdown, a second Ctrl-C
    would make Python 3.11 treat the thread that ends them as finished, and wait forever.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent() -> None:
    """Ignores Ctrl-C, which the parent handles, and ends this worker if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
