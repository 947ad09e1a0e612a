"""Temporary files, which are gone when the process ends, also when it is killed."""

import os
import tempfile
import weakref
from pathlib import Path


class TemporaryFile:
    """An empty file on the disk of temporary files, which lives as long as this object.

    On Linux it has no name: the system removes it with the process, however that ends. Where the system or the disk has
    no such files, it is in a folder that is removed with this object, and left by a process that is killed.

    Attributes:
        path: a path by which this process opens the file.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self) -> None:
        place = tempfile.gettempdir()
        try:
            descriptor = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o666)
        except (AttributeError, OSError):
            folder = tempfile.TemporaryDirectory(prefix="spn4cir-", dir=place)
            weakref.finalize(self, folder.cleanup)
            self.path = Path(folder.name, "file")
            self.path.touch()
        else:
            weakref.finalize(self, os.close, descriptor)
            self.path = Path(f"/proc/self/fd/{descriptor}")
