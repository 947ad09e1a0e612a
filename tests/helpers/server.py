"""A running `spn4cir serve`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = "from spn4cir.cli import main; main()"
# Code for `serve`: the answers of searches wait while the folder contains a file `hold`.
HELD_SEARCHES = """
import asyncio
from pathlib import Path
from spn4cir.serving.service import SearchService
search = SearchService.search
async def held(self, *arguments):
    found = await search(self, *arguments)
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    return found
SearchService.search = held
"""


class Server(NamedTuple):
    process: subprocess.Popen[str]
    address: str
    folder: Path


@pytest.fixture
def hold(server: Server) -> Iterator[Path]:
    """While this file exists, a module's server with HELD_SEARCHES answers no search."""
    path = server.folder / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def serve(folder: Path, *options: str, before: str = "", stderr: int | IO[bytes] = subprocess.PIPE) -> Iterator[Server]:
    """Serves `gallery` of a folder with the network `best.pt`, with the folder as the working directory.

    Args:
        folder: contains the gallery and the network.
        options: more options of the command.
        before: code that the process runs first.
        stderr: a file for what the server writes there, which can be too much for a pipe.
    """
    arguments = ["serve", "--checkpoint", "best.pt", "--gallery", "gallery", "--port", "0", "--workers", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_CURRENT_TEST", None)  # the page's framework behaves differently when it sees it
    process = subprocess.Popen(
        [sys.executable, "-c", before + _PROGRAM, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=stderr, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    images = sum(path.is_file() for path in (folder / "gallery").rglob("*"))
    found = re.match(rf"(http://127\.0\.0\.1:\d+)/ serves {images} images", said)
    if not found:
        process.kill()
        pytest.fail(f"the server said {said!r}: {process.communicate()[1]}")
    try:
        yield Server(process, found[1], folder)
    finally:
        process.kill()
        process.communicate()
