"""Returning freed memory to the system, which the C library otherwise keeps after large uploads."""

import asyncio
import ctypes
from collections.abc import Callable
from functools import partial

SECONDS = 10.0


async def return_freed_memory(seconds: float = SECONDS) -> None:
    """Returns the freed memory again and again, until it is cancelled; at once where the C library cannot do so."""
    if (trim := trimmer()) is None:
        return
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(trim)


def trimmer() -> Callable[[], int] | None:
    """Returns a function that returns freed memory to the system; None where the C library has none, unlike glibc."""
    try:
        return partial(ctypes.CDLL(None).malloc_trim, 0)
    except (AttributeError, OSError):
        return None
