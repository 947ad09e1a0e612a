"""Clones of the repository in which experiments run side by side.

DVC checks out thousands of images for each `dvc exp run --temp`. A clone checks them out once, and its later
experiments only run the stages that differ.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from spn4cir.errors import InputError

# What the stages that train the demo's small models write beside their data. DVC's run cache leaves out stages with
# metrics that git stores, so a clone that does not keep their locks trains the models again in each experiment.
_SMALL_MODELS = ("demo/dvc.lock", "metrics/demo")
# What `make research` writes itself.
_OWN = (":!metrics/research", ":!docs/research.md")
_IDENTITY = ("user.name", "user.email")


class Clones:
    """Clones of the present commit that share the cache of DVC; each is used by one experiment at a time.

    Args:
        folder: an empty folder for the clones.
        count: number of clones.

    Raises:
        InputError: a tracked file has changes that are not committed.
    """

    def __init__(self, folder: Path, count: int) -> None:
        if changed := _git("status", "--porcelain", "--untracked-files=no", "--", ".", *_OWN).splitlines():
            name = changed[0].split()[-1]
            raise InputError(f"{name}: has changes that are not committed; commit them, experiments run on the commit")
        self._free: SimpleQueue[Path] = SimpleQueue()
        self._latest: str | None = None
        for number in range(count):
            self._free.put(_clone(folder / str(number)))

    @contextmanager
    def take(self) -> Iterator[Path]:
        """Yields a clone with the files of the commit, the data of its last experiment, and the small models' locks."""
        clone = self._free.get()
        try:
            _git("reset", "--quiet", "--hard", folder=clone)
            if self._latest:
                _git("restore", f"--source={self._latest}", "--", *_SMALL_MODELS, folder=clone)
            yield clone
        finally:
            self._free.put(clone)

    def keep_models(self, commit: str) -> None:
        """Sets the experiment whose small models the next ones use: this processor may train others than the commit's.

        Args:
            commit: an experiment of this repository that has ended.
        """
        self._latest = commit


@contextmanager
def clones(count: int) -> Iterator[Clones]:
    """Yields clones in a temporary folder, with the errors of `Clones`."""
    with TemporaryDirectory() as folder:
        yield Clones(Path(folder), count)


def _clone(folder: Path) -> Path:
    _git("clone", "--quiet", "--shared", ".", str(folder))
    for key in _IDENTITY:
        if value := _git("config", "--default", "", key).strip():
            _git("config", key, value, folder=folder)
    cache = _run(["dvc", "cache", "dir"]).strip()
    for setting, value in (("cache.dir", cache), ("cache.type", "reflink,hardlink,copy")):
        _run(["dvc", "config", "--local", setting, value], folder)
    return folder


def _git(*arguments: str, folder: Path | None = None) -> str:
    return _run(["git", *arguments], folder)


def _run(arguments: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(arguments, cwd=folder, text=True, capture_output=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(arguments)} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
