"""Freeing closed pages, and returning freed memory to the system, which the C library otherwise keeps."""

import asyncio
import ctypes
import gc
from collections.abc import Callable
from functools import partial

from fastapi.dependencies import models

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


async def free_memory(seconds: float = SECONDS) -> None:
    """Frees closed pages and returns freed memory to the system, again and again until it is cancelled.

    The objects of a page refer to each other, and a server without visitors allocates too little for Python to look
    for them.
    """
    trim = trimmer()
    while True:
        await asyncio.sleep(seconds)
        forget_removed_routes()
        gc.collect()
        if trim is not None:
            await asyncio.to_thread(trim)


def forget_removed_routes() -> None:
    """Empties FastAPI's caches of functions, which keep those of routes that were removed.

    Every page has a route for its uploads, whose function refers to the page: up to 4,096 closed pages would stay, with
    the images that their visitors uploaded.
    """
    for each in list(vars(models).values()):
        if (empty := getattr(each, "cache_clear", None)) is not None:
            empty()


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
