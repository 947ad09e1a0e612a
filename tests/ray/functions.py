"""Functions and networks that run on the workers of the tests; workers import them from here."""

import os
import signal
import time
from pathlib import Path

import psutil
from torch import Tensor

from spn4cir.composers.protocol import ImageFeatures
from spn4cir.images.decoding import pixel_digest
from tests.helpers.stub import StubComposer

# The variable that names a raylet, which its workers inherit.
NODE = "SPN4CIR_TEST_NODE"
_SECONDS = 120


def node(path: Path) -> str:
    """Returns the name of the raylet, once every raylet of the cluster has called this."""
    name = os.environ[NODE]
    (path.parent / name).touch()
    _wait(path.parent / ("head" if name == "second" else "second"))
    return name


def digest_or_kill(path: Path) -> bytes:
    """Returns the digest; the raylet `doomed` is killed in its first call, and the others wait for that."""
    _kill_doomed(path.parent)
    return pixel_digest(path)


def exit_worker(path: Path) -> bytes:
    """Ends the worker's process without an error, as a lack of memory does."""
    os._exit(1)


class KillingComposer(StubComposer):
    """Kills the raylet `doomed` in its first call there; the others wait for that after their first images."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def encode_image(self, images: Tensor) -> ImageFeatures:
        if self.encoded:
            _kill_doomed(self.folder)
        return super().encode_image(images)


def _kill_doomed(folder: Path) -> None:
    killed = folder / "killed"
    if os.environ.get(NODE) == "doomed":
        killed.touch()
        raylet = next(each for each in psutil.Process().parents() if "raylet" in each.name())
        os.kill(raylet.pid, signal.SIGKILL)
        time.sleep(_SECONDS)  # Ray ends a worker without a raylet
    _wait(killed)


def _wait(path: Path) -> None:
    until = time.monotonic() + _SECONDS
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)
