"""Checks of a path before it is read: that it is a file, and that a file of text was received whole."""

import os
import stat
from pathlib import Path

from spn4cir.errors import InputError


def real_path(path: Path) -> Path:
    """Returns the absolute path with links followed. A link that leads to itself stays as it is.

    `Path.resolve` raises RuntimeError for such a link before Python 3.13.
    """
    return Path(os.path.realpath(path))


def check_file(path: Path) -> None:
    """Raises InputError for a folder, a pipe, a socket or a device; reading some of these would not end.

    An absent path is left to the function that reads it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe, a socket or a device"
        raise InputError(f"{path}: is a {kind}, expected a file; replace it, or give the path of the file itself")


def check_text_file(path: Path) -> None:
    """Raises InputError for what `check_file` refuses, and for a file whose first or last byte is zero.

    The zeros are space that was reserved for a download, which can be larger than the memory; or the file is UTF-16.
    """
    check_file(path)
    try:
        with path.open("rb") as stream:
            ends = stream.read(1)
            stream.seek(-1, os.SEEK_END)
            ends += stream.read(1)
    except OSError:  # absent, not readable or empty
        return
    if b"\0" in ends:
        raise InputError(
            f"{path}: begins or ends with a zero byte, as a file that was not received whole or that is UTF-16; "
            "download it again, or save it in UTF-8"
        )
