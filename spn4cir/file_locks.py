"""POSIX record locks on files that are removed when they are released.

The kernel releases such a lock when its process ends in any way, and processes that are forked do not inherit it.
Closing any other descriptor of the file in the same process releases it too.
"""

import fcntl
import os
from pathlib import Path
from typing import IO


def lock_file(stream: IO[bytes] | IO[str]) -> bool:
    """Locks an open file. Returns False if another process has locked it, and True where a disk has no locks."""
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # some network file systems have no locks
        pass
    return True


def is_at(stream: IO[bytes] | IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path: the process that held the lock can have removed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
