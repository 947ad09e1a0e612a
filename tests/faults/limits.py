"""Limits of time and memory for what a process calls."""

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def seconds_of_work() -> float:
    """Returns the time, without that in which the process waited for a core that other programs held."""
    waited = int(Path("/proc/self/schedstat").read_text().split()[1])
    return time.monotonic() - waited / 1e9


@contextmanager
def time_limit(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Calls a function when the block takes longer; time in which other programs held the cores does not count."""
    end = seconds_of_work() + seconds

    def check(_signal: int, _frame: FrameType | None) -> None:
        if seconds_of_work() > end:
            act()
        signal.setitimer(signal.ITIMER_REAL, 1)

    handler = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def limit_memory(more: int) -> tuple[int, int]:
    """Limits the address space to what is in use and `more` bytes. Returns the limits before."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    return before
