"""Marks a folder that is removed file by file: its whole copy has the name of `spn4cir.temporary_files.aside_path`.

A folder of a lower layer of overlayfs, as of a Docker image, cannot be renamed. A file in the folder, the mark, is made
before the first file is removed, and removed last. What is left after a kill is therefore not taken for a whole folder.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The name of the mark.
REMOVED = ".removed.tmp"


def is_occupied(path: Path) -> bool:
    """Whether something is at `path` that is not an empty folder and not a folder that a process was removing."""
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path)
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None and not os.path.lexists(path / REMOVED)
    except (FileNotFoundError, NotADirectoryError):  # another process has just renamed it
        return is_occupied(path)


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Yields the descriptor of a folder, which stays that of this folder if another one replaces it.

    Raises OSError if there is no folder.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield folder
    finally:
        os.close(folder)


def is_marked(folder: int) -> bool:
    """Whether an open folder has the mark."""
    return REMOVED in os.listdir(folder)


def mark_removed(folder: int) -> None:
    """Marks an open folder. Raises FileExistsError if it has the mark, and FileNotFoundError if it was removed."""
    os.close(os.open(REMOVED, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder))


def empty_marked(folder: int) -> None:
    """Removes what is in an open folder with the mark, then the mark. Does nothing to a folder without the mark.

    Several processes can do it at the same time. Raises OSError for what cannot be removed.
    """
    names = os.listdir(folder)
    if REMOVED in names:
        for name in (*(name for name in names if name != REMOVED), REMOVED):
            _remove_in(folder, name)


def _remove_in(folder: int, name: str) -> None:
    """Removes an entry of an open folder; another process may be removing it too."""
    while True:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)


def put_in_place(aside: Path, path: Path) -> None:
    """Renames a copy to a place that is not occupied. Raises OSError if that fails."""
    if os.path.lexists(path):
        with open_folder(path) as folder:
            empty_marked(folder)
        path.rmdir()
    aside.rename(path)
