"""The peak memory: of a process and of its descendants by samples, and of what Python allocates."""

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

INTERVAL = 0.2


@contextmanager
def watched(pid: int, size_of: Callable[[psutil.Process], float]) -> Iterator[Callable[[str], float]]:
    """Samples the memory of a process and of its descendants; returns the peak since the last call, in MB.

    The kind `below` is all descendants of the process together, `own` the process itself, `all` both.

    Args:
        pid: the process.
        size_of: returns the memory of a process in MB; `resident`, or `own_memory`.
    """
    peak = {"below": 0.0, "own": 0.0, "all": 0.0}
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(INTERVAL):
            # Below twice: a process has the whole of the pages that it shared with descendants when these have ended.
            try:
                root = psutil.Process(pid)
                before, own, after = _below(root, size_of), size_of(root), _below(root, size_of)
            except psutil.NoSuchProcess:
                return
            below = min(before, after)
            for kind, found in (("below", below), ("own", own), ("all", own + below)):
                peak[kind] = max(peak[kind], found)

    def ask(kind: str) -> float:
        found, peak[kind] = peak[kind], 0.0
        return found

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield ask
    finally:
        stopped.set()
        watcher.join()


def _below(root: psutil.Process, size_of: Callable[[psutil.Process], float]) -> float:
    return sum(map(_or_none(size_of), root.children(recursive=True)))


def _or_none(size_of: Callable[[psutil.Process], float]) -> Callable[[psutil.Process], float]:
    """Returns a function that is 0 for a process that ended."""

    def size(process: psutil.Process) -> float:
        try:
            return size_of(process)
        except psutil.NoSuchProcess:
            return 0.0

    return size


def resident(process: psutil.Process) -> float:
    """Returns the resident memory in MB; pages that processes share count in each."""
    return float(process.memory_info().rss) / 1e6


def own_memory(process: psutil.Process) -> float:
    """Returns the anonymous and shared memory in MB; a page that n processes share counts as 1/n in each.

    Pages of files are left out, such as those of libraries and of mapped arrays: other programs on the machine may
    share them, and the system can drop them.
    """
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # the process ended
        return 0.0
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines[1:]}
    return sum(int(kilobytes[kind]) for kind in ("Pss_Anon", "Pss_Shmem")) * 1024 / 1e6


def peak_bytes_each(work: Callable[[int], object], sizes: tuple[int, int] = (1_000, 4_000)) -> float:
    """Returns how much the peak of the memory that Python allocates grows for each item.

    Args:
        work: is called with a number of items, after a first call that imports and caches what it needs.
        sizes: the two numbers of items.
    """
    peaks = []
    work(sizes[0])
    for size in sizes:
        gc.collect()
        tracemalloc.start()
        work(size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
