"""Files that are mapped into memory and never changed, so that a copy of them can be a link."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class MappedFile:
    """A file when it was mapped. Another process can replace it; the mapping keeps the old content.

    Attributes:
        path: the file.
        inode: device and number of the file.
    """

    path: Path
    inode: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file as it is now. Raises OSError if it is missing."""
        status = path.stat()
        return cls(path, (status.st_dev, status.st_ino))

    @property
    def unchanged(self) -> bool:
        """Whether the path still names the file that was mapped."""
        try:
            return MappedFile.of(self.path) == self
        except OSError:
            return False

    def link_to(self, target: Path) -> None:
        """Links the file, or copies it where the file system has no links. Raises OSError."""
        try:
            _link(self.path, target)
        except (OSError, NotImplementedError):
            shutil.copyfile(self.path, target)


def _link(path: Path, target: Path) -> None:
    """Links a file, also one without a name, whose path is a link of the system that has to be followed.

    Without a folder, `os.link` follows no link on Linux.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.link(path.name, target.absolute(), src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
