"""Temporary files, folders and links that a killed process did not rename or remove."""

import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from spn4cir.projects.leftovers import Leftover, RunningProcess, age_of, is_gone

# Of `spn4cir.files`: the name, and the id of the process that writes the file.
_OURS = re.compile(r"\.+.+?(?:\.(?P<pid>\d+)\.tmp)+")
# DVC's: copies on their way into the cache or the workspace, and links that it tries. They do not name a process.
_OF_DVC = re.compile(r".*\.[\w-]{22}\.tmp")
_FOLDERS = ("data", "metrics", ".dvc/tmp", ".dvc/cache")
# Clones can share a cache, and their processes are not known here.
_OLD = 24 * 3600.0
_PROGRAM = "python"


def find_unfinished(workspace: Path, running: list[RunningProcess]) -> Iterator[Leftover]:
    """The temporary files of this package whose process has ended, and those of DVC that no process writes.

    Those of DVC are left while a process uses the workspace, and in the cache until they are a day old. Links are not
    followed.

    Args:
        workspace: the folder that contains `.dvc`.
        running: the processes that use the workspace.
    """
    for path in _entries(workspace):
        name = path.name
        if found := _OURS.fullmatch(name):
            if is_gone(int(found["pid"]), path.lstat().st_mtime, _PROGRAM):
                yield _leftover(workspace, path, f"was not finished by process {found['pid']}, which has ended")
        elif _OF_DVC.fullmatch(name) and not running:
            is_shared = workspace / ".dvc" / "cache" in path.parents
            if not is_shared or age_of(path) > _OLD:
                yield _leftover(workspace, path, "was not finished by a DVC that has ended")


def _leftover(workspace: Path, path: Path, fault: str) -> Leftover:
    return Leftover(path.relative_to(workspace), fault, "removed", partial(remove, path))


def _entries(workspace: Path) -> Iterator[Path]:
    """What ends with `.tmp`: in the folder itself, and in those that stages and DVC write, at any depth."""
    yield from sorted(path for path in workspace.iterdir() if path.suffix == ".tmp")
    for folder in _FOLDERS:
        for place, folders, names in os.walk(workspace / folder):
            found = [name for name in (*folders, *names) if name.endswith(".tmp")]
            folders[:] = sorted(set(folders) - set(found))
            yield from (Path(place, name) for name in sorted(found))


def remove(path: Path) -> None:
    """Removes a file, a link or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
