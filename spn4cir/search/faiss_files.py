"""Writing of FAISS indexes, with the system's errors."""

import errno
import os
from pathlib import Path
from typing import Any

import faiss

# System errors that FAISS reports as text only.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT)


def write_faiss(index: Any, path: Path) -> None:
    """Writes a FAISS file. Raises OSError if that fails."""
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # its text contains the system's message
        code = next((code for code in _WRITE_ERRORS if os.strerror(code) in str(error)), errno.EIO)
        raise OSError(code, os.strerror(code), str(path)) from None
