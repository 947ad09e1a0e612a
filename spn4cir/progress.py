"""Progress with counts and remaining time: a bar on a terminal, plain lines elsewhere; and lines printed once."""

import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_WORTH_A_LINE = 1.0


def progress(items: Iterable[Item], total: int, label: str, unit: str, done: int = 0) -> Iterator[Item]:
    """Yields `items` unchanged and reports the progress.

    Args:
        items: the items to iterate over.
        total: the number of items of the whole job, including those of an earlier run.
        label: the name of the job, as in `caption 10 words`.
        unit: the name of one item, as in `batch`.
        done: the number of items that an earlier run finished.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, initial=done, desc=label, unit=unit, file=sys.stderr)
        return
    started = last = time.monotonic()
    count = done
    for item in items:
        yield item
        count += 1
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and count < total:
            last = now
            rate = (count - done) / (now - started)
            line = f"{label}: {count}/{total} {unit}, {rate:.1f} a second, {(total - count) / rate:.0f} s left"
            print(line, file=sys.stderr, flush=True)
    elapsed = time.monotonic() - started
    if elapsed >= _SECONDS_WORTH_A_LINE:
        rate = (count - done) / elapsed
        line = f"{label}: {count}/{total} {unit}, done in {elapsed:.1f} s, {rate:.1f} a second"
        print(line, file=sys.stderr, flush=True)


@cache
def say_once(line: str) -> None:
    """Writes a line to stderr, once in this process."""
    print(line, file=sys.stderr, flush=True)
