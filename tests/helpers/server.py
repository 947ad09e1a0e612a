"""A running `spn4cir serve`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
    "from spn4cir.cli import main; main()"
)


class Server(NamedTuple):
    process: subprocess.Popen[str]
    address: str
    folder: Path


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[Server]:
    """Serves `gallery` of a folder with the network `best.pt`, with the folder as the working directory."""
    arguments = ["serve", "--checkpoint", "best.pt", "--gallery", "gallery", "--port", "0", "--workers", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_CURRENT_TEST", None)  # the page's framework behaves differently when it sees it
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    images = sum(path.is_file() for path in (folder / "gallery").rglob("*"))
    found = re.match(rf"(http://127\.0\.0\.1:\d+)/ serves {images} images", said)
    if not found:
        process.kill()
        pytest.fail(f"the server said {said!r}: {process.communicate()[1]}")
    yield Server(process, found[1], folder)
    process.kill()
    process.communicate()
