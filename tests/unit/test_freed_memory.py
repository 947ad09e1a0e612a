"""Memory that the server frees is returned to the system."""

import asyncio
import ctypes
import platform
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from spn4cir.serving import freed_memory

# Blocks below the size that glibc maps, and one after them that keeps them from being returned when they are freed.
_FREES = """
from pathlib import Path
from spn4cir.serving.freed_memory import trimmer

def resident():
    return int(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmRSS")))

blocks = [b"x" * 100_000 for _ in range(1_000)]
last = b"x" * 100_000
del blocks
kept = resident()
trimmer()()
print(kept - resident())
"""


_KEEPS_LITTLE = """
from pathlib import Path
from spn4cir.serving.freed_memory import keep_little

def resident():
    return int(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmRSS")))

keep_little()
for _ in range(3):  # glibc raises its limit when a mapped block is freed
    blocks = [b"x" * 2_000_000 for _ in range(50)]
    last = b"x" * 2_000_000
    filled = resident()
    del blocks
print(filled - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_large_blocks_are_returned_when_they_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", _KEEPS_LITTLE], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 80_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_freed_blocks_are_returned() -> None:
    done = subprocess.run([sys.executable, "-c", _FREES], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 80_000


def test_it_is_repeated_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(freed_memory, "trimmer", lambda: lambda: calls.append(1))

    async def watch() -> None:
        task = asyncio.create_task(freed_memory.free_memory(0.001))
        while len(calls) < 3:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(asyncio.wait_for(watch(), 20))


def test_a_c_library_without_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert freed_memory.trimmer() is None
    freed_memory.keep_little()


class Upload:
    """The element of a page that the function of a route refers to."""


def test_a_removed_route_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory, "trimmer", lambda: None)
    app, upload = FastAPI(), Upload()
    left = weakref.ref(upload)

    def route(upload: Upload) -> Callable[[], str]:
        return lambda: str(upload)

    app.post("/upload/1")(route(upload))
    app.routes[:] = [each for each in app.routes if getattr(each, "path", None) != "/upload/1"]
    del upload

    async def watch() -> None:
        task = asyncio.create_task(freed_memory.free_memory(0.001))
        while left() is not None:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(asyncio.wait_for(watch(), 20))
