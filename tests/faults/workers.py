"""Kills processes that decode images, and puts pipes in place of files: one line, an end in time, and no orphan."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.faults.campaign import Trial, fresh_folder, main
from tests.faults.project import Run, orphans
from tests.faults.tiny import Tiny
from tests.scale.names import DATASET, OWN

# The end after the loss of a worker, or after a pipe: stated in docs/reliability.md.
SECONDS = 60.0
_START = 300.0  # the longest time to the start of a worker, on a busy machine
STAGES = {
    "dedup": (DATASET,),
    "match": (DATASET,),
    "bank": (DATASET, OWN),
    "gallery": (DATASET, OWN),
}
PIPES = {
    "dedup": ("cirr/captions/cap.rc2.train.json", "train/00000.tar"),
    "gallery": ("cirr/captions/cap.rc2.val.json",),
}
# A worker says that it has started, which a program that is being started does not, and waits until one is killed.
_WAIT = """
import os, time

def wait():
    open(os.path.join({folder!r}, str(os.getpid())), "x").close()
    while not os.path.exists(os.path.join({folder!r}, "killed")):
        time.sleep(0.05)

os.register_at_fork(after_in_child=wait)
"""
_LOST = ("was killed", "was lost")


def trials(tiny: Tiny, place: Path) -> Iterator[Trial]:
    """Yields the trials."""
    for stage in STAGES:
        for number in (1, 2):
            trial = partial(lost_worker, tiny, place / "lost", stage, number)
            yield f"worker {number} of `{stage}` is killed", trial
    for stage, names in PIPES.items():
        for name in names:
            yield f"a pipe in place of `{name}`", partial(pipe, tiny, place / "pipe", stage, name)


def lost_worker(tiny: Tiny, place: Path, stage: str, number: int) -> list[str]:
    """Kills a worker of a stage when it starts, as the kernel does when memory is short, and runs the stage again."""
    root = _before(tiny, fresh_folder(place), stage)
    command = [sys.executable, "-m", f"stages.{stage}", *STAGES[stage]]
    started = fresh_folder(place.with_name("started"))
    started.mkdir()
    waiting = tiny.beginning_with(_WAIT.format(folder=str(started)), place.with_name("site"))
    run = Run(root, {**tiny.environment, **waiting}, command)
    if not _kill_worker(run, started, number):
        return [f"no worker {number} was found: {' / '.join(run.lines)}"]
    found = _ended(tiny, root, run, _LOST)
    again = Run(root, tiny.environment, command)
    return found + ([f"does not run again: {' / '.join(again.lines)}"] if again.end() else [])


def pipe(tiny: Tiny, place: Path, stage: str, name: str) -> list[str]:
    """Puts a pipe that no process writes in place of a file that a stage reads."""
    root = _before(tiny, fresh_folder(place), stage)
    data = root / "data" / "raw" / DATASET
    path = data / name
    own_copies(data)
    path.unlink()
    os.mkfifo(path)
    run = Run(root, tiny.environment, [sys.executable, "-m", f"stages.{stage}", *STAGES[stage]])
    return _ended(tiny, root, run, (Path(name).name, Path(name).stem))


def _before(tiny: Tiny, place: Path, stage: str) -> Path:
    """A finished project whose stage has no work in progress that it could take."""
    root = tiny.copy(place, finished=True)
    fresh_folder(root / "data" / "work" / stage)
    return root


def own_copies(data: Path) -> None:
    """Replaces a link to a folder of data by a folder of links to its files, so that a change stays in this project.

    DVC does not look into links to folders within such a folder.
    """
    if data.is_symlink():
        source = data.resolve()
        data.unlink()
        shutil.copytree(source, data, copy_function=os.symlink)


def _kill_worker(run: Run, started: Path, number: int) -> bool:
    """Kills the worker of this number, in the order of their starts, and lets the others work."""
    deadline = time.monotonic() + _START
    while run.process.poll() is None and time.monotonic() < deadline:
        workers = sorted(int(path.name) for path in started.iterdir())
        if len(workers) >= number:
            os.kill(workers[number - 1], signal.SIGKILL)
            (started / "killed").touch()
            return True
        time.sleep(0.01)
    run.kill()
    return False


def _ended(tiny: Tiny, root: Path, run: Run, words: tuple[str, ...]) -> list[str]:
    """What is wrong unless the run ends in time, with one line of error and without an orphan."""
    try:
        run.process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        return [f"had not ended after {SECONDS:.0f} s"]
    run.end()
    errors = [line for line in run.lines if line.startswith("error: ")]
    found = tiny.not_refused(root, run, *words)
    found += [] if len(errors) == 1 else [f"printed {len(errors)} lines of error"]
    return found + [f"runs on: {command}" for command in orphans(root)]


if __name__ == "__main__":
    main("workers", __doc__, trials)
