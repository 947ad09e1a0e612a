"""The project of the campaign, its environment, and the processes that run in it."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory
from threading import Thread

import psutil

from demo.warm_python import warm_python
from tests.pipeline.conftest import ENVIRONMENT, copy_repository

DATASETS = ("demo_fiq", "demo_cirr")
FAMILIES = ("clip", "blip")
REPRO = ("dvc", "repro", "--no-run-cache")
_RUNNING = re.compile(r"Running stage '([^']+)'")
# So few that a kill can be between two batches.
CAPTIONS_A_BATCH = 8
_SEEDS_APART = 100


def make_project(place: Path) -> None:
    """Makes a copy of the repository that runs in minutes: small demo data in both layouts, drawn with other seeds."""
    project = copy_repository(place)
    project.edit("demo/params.yaml", _redraw)
    project.edit("params.yaml", _choose)
    project.commit("other seeds, two families")


def _redraw(params: dict) -> None:
    for section in ("draw", "draw_pool"):
        for settings in params[section].values():
            settings["seed"] += _SEEDS_APART
    for section in ("images", "clip", "captioner", "encoder", "blip"):
        params[section]["seed"] += _SEEDS_APART
    params["blip"].update(image_steps=2, steps=2, batch_size=16)


def _choose(params: dict) -> None:
    """Several epochs and batches, so that a kill can be between two of them."""
    params["run"].update(models=list(FAMILIES))
    for dataset in DATASETS:
        params["caption"][dataset]["batch_size"] = CAPTIONS_A_BATCH
        for family in FAMILIES:
            params["checkpoint"][dataset][family]["train"].update(epochs=3, batch_size=8)
            params["train"][dataset][family].update(epochs=3, batch_size=8)
            params["bank"][dataset][family]["batch_size"] = 8


@contextmanager
def warm_environment() -> Iterator[Mapping[str, str]]:
    """Yields an environment in which stages start from a warm process, in the process group of their `dvc repro`."""
    with TemporaryDirectory() as folder, warm_python(Path(folder)) as stand_in:
        yield environment() | {"PATH": f"{stand_in}{os.pathsep}{ENVIRONMENT['PATH']}"}


def environment() -> dict[str, str]:
    """Line by line, and without DVC's check for updates, which is a process of its own."""
    return ENVIRONMENT | {"PYTHONUNBUFFERED": "1", "CI": "1"}


class Run:
    """A command in a process group of its own.

    Attributes:
        process: the command; its group has the same number.
        lines: the lines of both streams so far.
        began: when the command started, by `time.monotonic`.
        last: when it printed its last line, or started.
        starts: when each stage of DVC started, in their order.
    """

    def __init__(self, root: Path, environment: Mapping[str, str], command: Sequence[str] = REPRO) -> None:
        self.began = self.last = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self.starts: dict[str, float] = {}
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.last = time.monotonic()
            if found := _RUNNING.match(line):
                self.starts[found[1]] = self.last
            self.lines.append(line.rstrip("\n"))

    @property
    def stage(self) -> str:
        """The stage that started last; empty before the first."""
        return next(reversed(list(self.starts)), "")

    def end(self, timeout: float = 600) -> int:
        """Waits for the end. Returns the exit status; kills the group and raises TimeoutExpired after the timeout."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(10)
        return status

    def kill(self) -> None:
        """Ends the whole group by SIGKILL."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, SIGKILL)
        self.process.wait()
        self._reader.join(10)


def processes_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder is `folder` or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            place = Path(process.cwd())
        except (psutil.Error, OSError):
            continue
        if folder in (place, *place.parents) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def orphans(folder: Path, seconds: float = 30) -> list[str]:
    """The commands that still run in a folder after some seconds, in which processes that follow others end."""
    wait_until(lambda: not processes_in(folder), seconds)
    return [" ".join(process.cmdline()) for process in processes_in(folder)]


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Waits until `done` is true, at most some seconds. Returns whether it is."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
