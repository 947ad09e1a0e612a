"""Inside a server: notes every file that it opens outside of given folders."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def watch(log: Path, *folders: Path) -> None:
    """Appends the real path of each file that the process opens to a log.

    Files of the folders, of Python and its packages, and of devices are left out, and unnamed temporary files.
    """
    allowed = tuple(f"{os.path.realpath(each)}{os.sep}" for each in (*folders, sys.prefix, sys.base_prefix, "/dev"))
    temporary = os.path.realpath(tempfile.gettempdir())  # a file without a name is opened by its folder
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path != temporary and not path.startswith(allowed):
                os.write(opened, f"{path}\n".encode(errors="replace"))

    sys.addaudithook(note)
