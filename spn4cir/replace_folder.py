"""Replaces a folder by another one, so that a process that is killed meanwhile leaves one of them whole in its place.

The two are exchanged in one step where the system can: on Linux, on most file systems of local disks. Elsewhere the old
folder is set aside first. A process that is killed between the two renames leaves nothing in the place; the next writer
and `spn4cir doctor` put the old folder back.

A folder of a lower layer of overlayfs, as of a Docker image, cannot be renamed. It is copied aside and removed file by
file (`spn4cir.removed_folder`); the next writer and `spn4cir doctor` put the copy back.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from spn4cir.errors import InputError
from spn4cir.removed_folder import empty_marked, is_marked, is_occupied, mark_removed, open_folder, put_in_place
from spn4cir.temporary_files import aside_path, remove, temporary_path

# Something other than an empty folder is in the place.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
# Other processes can write the same path; each try fails only if one of them has just renamed something.
_TRIES = 1000
# A folder that is replaced during each of these reads is taken as it is.
_READS = 5
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux

Result = TypeVar("Result")


def replace_folder(source: Path, path: Path) -> None:
    """Renames the folder `source` to `path`; both are on one disk.

    What is at `path`, also a file or a link, is replaced and then removed. What cannot be removed stays as `source`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        if _rename(source, path) or _exchange(source, path) or _rename_aside(source, path):
            break
    else:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
    for old in (source, aside_path(path)):
        with suppress(OSError):
            remove(old)


def _rename(source: Path, path: Path) -> bool:
    """Renames a folder to a place at which nothing or an empty folder is. Returns False for another place."""
    try:
        source.rename(path)
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    return True


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two entries in one step. Returns False if the system or the file system cannot, or one is missing."""
    call = _renameat2()
    return call is not None and call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The system's call; None if its library has none."""
    return getattr(ctypes.CDLL(None), "renameat2", None)


def _rename_aside(source: Path, path: Path) -> bool:
    """Sets aside what is at `path` and renames the folder to it. Returns False if another process was faster."""
    aside = aside_path(path)
    with suppress(OSError):
        remove(aside)  # of an earlier try
    try:
        if not _set_aside(path, aside):
            _copy_aside(path, aside)
        return _rename(source, path)
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        return False
    finally:
        if os.path.lexists(aside) and not is_occupied(path):
            with suppress(OSError):
                put_in_place(aside, path)


def _set_aside(path: Path, aside: Path) -> bool:
    """Renames what is at `path`. Returns False for a folder that cannot be renamed though both are on one disk."""
    try:
        path.rename(aside)
    except OSError as error:
        if error.errno == errno.EXDEV and path.is_dir() and not path.is_symlink():
            return False
        raise
    return True


def _copy_aside(path: Path, aside: Path) -> None:
    """Copies a folder aside and empties it, if no other process is emptying it; else helps that process.

    Raises FileNotFoundError, FileExistsError or NotADirectoryError if another process was faster.
    """
    with open_folder(path) as folder:
        if not is_marked(folder):
            _copy_whole(path, aside)
            try:
                mark_removed(folder)
            except OSError:
                remove(aside)  # files were removed while they were copied
                raise
        empty_marked(folder)


def _copy_whole(path: Path, aside: Path) -> None:
    """Copies a folder under a temporary name and renames the copy."""
    copy = temporary_path(temporary_path(path))
    remove(copy)  # of a process that had the same id
    try:
        _copy(path, copy)
        copy.rename(aside)
    finally:
        with suppress(OSError):
            remove(copy)


def _copy(source: Path, target: Path) -> None:
    """Copies a folder. The errors of `shutil.copytree` do not contain the number of the system."""
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _copy(Path(entry.path), target / entry.name)
            else:
                shutil.copy2(entry.path, target / entry.name, follow_symlinks=False)
    shutil.copystat(source, target)


def read_unreplaced(folder: Path, read: Callable[[], Result]) -> Result:
    """Reads a folder of several files by a function; again if another process has replaced the folder meanwhile.

    Raises InputError as the function does.
    """
    for _ in range(_READS - 1):
        before = _identity(folder)
        try:
            found = read()
        except InputError:
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return found
    return read()


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """What differs between a folder and the one that replaces it; None if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
