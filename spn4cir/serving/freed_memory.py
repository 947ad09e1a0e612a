"""Returning freed memory to the system, which the C library otherwise keeps after large uploads."""

import asyncio
import ctypes
import gc
from collections.abc import Callable
from functools import partial

SECONDS = 10.0
# Parameters of glibc's mallopt, from malloc.h.
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_HEAPS, _LARGE_BLOCK = 2, 1 << 20


def keep_little() -> None:
    """Lets the C library return blocks of a megabyte when they are freed; has no effect where it is not glibc.

    glibc would raise this limit up to 32 MB, and give each thread a heap of its own, in which a small block that is in
    use keeps the freed memory around it. Here threads share two heaps.
    """
    if (set_option := _function("mallopt")) is not None:
        set_option(_MMAP_THRESHOLD, _LARGE_BLOCK)
        set_option(_ARENA_MAX, _HEAPS)


async def return_freed_memory(seconds: float = SECONDS) -> None:
    """Returns the freed memory again and again, until it is cancelled; at once where the C library cannot do so.

    Pages that were closed are collected before: their objects refer to each other, and a server without visitors
    allocates too little for Python to look for them.
    """
    if (trim := trimmer()) is None:
        return
    while True:
        await asyncio.sleep(seconds)
        gc.collect()
        await asyncio.to_thread(trim)


def trimmer() -> Callable[[], int] | None:
    """Returns a function that returns freed memory to the system; None where the C library has none, unlike glibc."""
    trim = _function("malloc_trim")
    return None if trim is None else partial(trim, 0)


def _function(name: str) -> Callable[..., int] | None:
    """Returns a function of the C library; None where it has none of this name."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    return found
