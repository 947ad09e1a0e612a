"""Temporary files, folders and links that a killed process did not rename or remove."""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from spn4cir.projects.leftovers import Leftover, RunningProcess, age_of, is_gone, is_in
from spn4cir.removed_folder import is_occupied, put_in_place
from spn4cir.temporary_files import remove

# Of `spn4cir.temporary_files`: the name, and the id of the process that writes the file or set it aside.
_OURS = re.compile(r"\.+.+?(?:\.(?P<pid>\d+)\.tmp)+", re.DOTALL)
_SET_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.old\.tmp", re.DOTALL)
# DVC's: copies on their way into the cache or the workspace, and links that it tries. They do not name a process.
_OF_DVC = re.compile(r".*\.[\w-]{22}\.tmp", re.DOTALL)
_FOLDERS = ("data", "metrics", ".dvc/tmp", ".dvc/cache")
# Clones can share a cache or a folder behind a link, and their processes are not known here.
_OLD = 24 * 3600.0
_PROGRAM = "python"
_OUTSIDE = "a link leads out of the project"
_WHEN = " if no other project uses it; doctor does so when it is a day old"


def find_unfinished(workspace: Path, running: list[RunningProcess]) -> Iterator[Leftover]:
    """The temporary files of this package whose process has ended, and those of DVC that no process writes.

    Those of DVC are left while a process uses the workspace, and in the cache until they are a day old. Links are not
    followed, except a link in place of a folder of the workspace, such as `data`.

    What is out of the workspace, as when `data` is a link to another disk, may be of another project on another
    machine, whose processes are not known here. It is reported until nothing in it was written for a day, and then
    mended like what is in the workspace. What was set aside is never removed while nothing is in its place: it is the
    only copy.

    Args:
        workspace: the folder that contains `.dvc`.
        running: the processes that use the workspace.
    """
    for path in _entries(workspace):
        name = path.name
        if found := _OURS.fullmatch(name):
            if is_gone(int(found["pid"]), path.lstat().st_mtime, _PROGRAM):
                yield _leftover(workspace, path, f"was not finished by process {found['pid']}, which has ended")
        elif found := _SET_ASIDE.fullmatch(name):
            if is_gone(int(found["pid"]), path.lstat().st_ctime, _PROGRAM):
                yield _set_aside(workspace, path, found["name"], found["pid"])
        elif _OF_DVC.fullmatch(name) and not running:
            is_shared = workspace / ".dvc" / "cache" in path.parents
            if not is_shared or age_of(path) > _OLD:
                yield _leftover(workspace, path, "was not finished by a DVC that has ended")


def _set_aside(workspace: Path, path: Path, name: str, pid: str) -> Leftover:
    """The leftover of a process that was killed while it replaced a folder."""
    place = path.with_name(name)
    fault = f"was set aside by process {pid}, which has ended"
    if is_occupied(place):
        return _leftover(workspace, path, fault)
    if _may_be_of_others(workspace, path):
        return Leftover(
            path.relative_to(workspace), fault, f"{_OUTSIDE}: it is the only copy, rename it to {name}{_WHEN}"
        )
    return Leftover(path.relative_to(workspace), fault, f"renamed to {name}", partial(put_in_place, path, place))


def _leftover(workspace: Path, path: Path, fault: str) -> Leftover:
    if _may_be_of_others(workspace, path):
        return Leftover(path.relative_to(workspace), fault, f"{_OUTSIDE}: remove it{_WHEN}")
    return Leftover(path.relative_to(workspace), fault, "removed", partial(remove, path))


def _may_be_of_others(workspace: Path, path: Path) -> bool:
    """Whether a path is out of the workspace, and it or something in it was written in the last day."""
    if is_in(path, workspace):
        return False
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    try:
        return any(age_of(each) <= _OLD for each in (path, *inside))
    except FileNotFoundError:  # another process has just removed it
        return True


def _entries(workspace: Path) -> Iterator[Path]:
    """What ends with `.tmp`: in the folder itself, and in those that stages and DVC write, at any depth."""
    yield from sorted(path for path in workspace.iterdir() if path.suffix == ".tmp")
    for folder in _FOLDERS:
        for place, folders, names in os.walk(workspace / folder):
            found = [name for name in (*folders, *names) if name.endswith(".tmp")]
            folders[:] = sorted(set(folders) - set(found))
            yield from (Path(place, name) for name in sorted(found))
