"""The names of unfinished files and folders, beside their places, and what killed processes left under such names.

`.NAME.PID.tmp` is unfinished, or was replaced by what is now called NAME. `.NAME.PID.old.tmp` is whole: process PID set
it aside, or copied it, to put something else in its place.
"""

import os
import re
import shutil
from collections.abc import Iterator
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
    if is_occupied(path) or not path.parent.is_dir():
        return
    with suppress(OSError):  # another process was faster, or the place cannot be written
        if found := list(_set_aside(path)):
            put_in_place(max(found, key=lambda entry: entry.lstat().st_ctime), path)


def remove_stale(path: Path) -> None:
    """Removes the temporary files and folders of `path` whose process no longer runs on this machine.

    What such a process set aside is put back as `put_back` does.
    """
    put_back(path)
    unfinished = re.compile(rf"\.+{re.escape(path.name)}(?:\.(\d+)\.tmp)+")  # repeated: a file within a file's block
    stale = (entry for entry, process in _entries(path, unfinished) if not _is_running(process))
    replaced = _set_aside(path) if is_occupied(path) else ()  # else it is the only copy
    for entry in (*stale, *replaced):
        with suppress(OSError):
            remove(entry)


def _set_aside(path: Path) -> Iterator[Path]:
    """What processes that have ended set aside. In a container, they can have had the id of this process."""
    form = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.old\.tmp")
    for entry, process in _entries(path, form):
        if process == os.getpid() or not _is_running(process):
            yield entry


def _entries(path: Path, form: re.Pattern[str]) -> Iterator[tuple[Path, int]]:
    """The entries beside `path` with a name of this form, and the ids of their processes."""
    for entry in list(path.parent.iterdir()):
        if found := form.fullmatch(entry.name):
            yield entry, int(found[1])


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
