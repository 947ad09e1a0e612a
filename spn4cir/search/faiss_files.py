"""Writing of FAISS indexes, with the system's errors."""

from pathlib import Path
from typing import Any

import faiss

from spn4cir.files import named_in


def write_faiss(index: Any, path: Path) -> None:
    """Writes a FAISS file. Raises OSError if that fails."""
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise named_in(error, path) from None
