"""The names of unfinished files and folders, beside their places, and what killed processes left under such names.

`.NAME.PID.tmp` is unfinished, or was replaced by what is now called NAME. `.NAME.PID.old.tmp` is whole: process PID set
it aside, or copied it, to put something else in its place.
"""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from spn4cir.removed_folder import is_occupied, put_in_place


def temporary_path(path: Path) -> Path:
    """The place at which this process writes what it renames to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def aside_path(path: Path) -> Path:
    """The place at which this process keeps what was at `path` until something else is there."""
    return path.with_name(f".{path.name}.{os.getpid()}.old.tmp")


def put_back(path: Path) -> None:
    """Renames to `path` what a killed process set aside last, if nothing or a folder that it was removing is there."""
    if not is_occupied(path):
        _put_back(path, _left_beside(path)[1])


def remove_stale(path: Path) -> None:
    """Removes the temporary files and folders of `path` whose process no longer runs on this machine.

    What such a process set aside is put back as `put_back` does. The folder is listed once.
    """
    unfinished, set_aside = _left_beside(path)
    if not is_occupied(path):
        _put_back(path, set_aside)
    replaced = set_aside if is_occupied(path) else []  # else it is the only copy
    for entry in (*unfinished, *replaced):
        with suppress(OSError):
            remove(entry)


def _put_back(path: Path, set_aside: list[Path]) -> None:
    with suppress(OSError):  # another process was faster, or the place cannot be written
        if set_aside:
            put_in_place(max(set_aside, key=lambda entry: entry.lstat().st_ctime), path)


def _left_beside(path: Path) -> tuple[list[Path], list[Path]]:
    """The unfinished entries of `path`, and those that were set aside, of processes that have ended.

    In a container, a process that set something aside can have had the id of this one.
    """
    if not path.parent.is_dir():
        return [], []
    name, unfinished, set_aside = re.escape(path.name), [], []
    # The end of an unfinished name can be repeated: a file within a file's block.
    form = re.compile(rf"\.+{name}(?:\.(\d+)\.tmp)+")
    aside = re.compile(rf"\.{name}\.(\d+)\.old\.tmp")
    for entry in _temporary_names(path.parent):
        if (found := form.fullmatch(entry)) and not _is_running(int(found[1])):
            unfinished.append(path.with_name(entry))
        elif (found := aside.fullmatch(entry)) and (int(found[1]) == os.getpid() or not _is_running(int(found[1]))):
            set_aside.append(path.with_name(entry))
    return unfinished, set_aside


def _temporary_names(folder: Path) -> list[str]:
    """The names in a folder that can be of unfinished entries; the folder can have many others."""
    names = os.listdir(folder)  # noqa: PTH208 (a path for each name takes most of the time)
    return [name for name in names if name[0] == "." and name.endswith(".tmp")]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
