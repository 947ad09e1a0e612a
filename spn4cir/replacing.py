"""Where a command writes: only what an earlier run wrote is replaced, and nothing that it reads."""

from collections.abc import Collection
from pathlib import Path

from spn4cir.errors import InputError


def check_outside(path: Path, folder: Path) -> None:
    """Refuses a file to be written in the folder that it is made of. Raises InputError."""
    if folder.resolve() in path.resolve().parents:
        raise InputError(f"{path}: lies in {folder}, which is read; name a file elsewhere")


def check_replaceable(folder: Path, ours: Collection[str], kind: str) -> None:
    """Refuses a place where something else stands.

    Args:
        folder: what is to be written.
        ours: the names that such a folder holds.
        kind: what it is, for messages, as in `index`.

    Raises:
        InputError: it is a file, or holds something of another name.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder for the {kind}")
    strangers = sorted({entry.name for entry in folder.iterdir()} - set(ours)) if folder.exists() else []
    if strangers:
        raise InputError(f"{folder}: holds {strangers[0]}, which is of no {kind}; name a new folder for the {kind}")
