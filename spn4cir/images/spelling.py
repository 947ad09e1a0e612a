"""Lookup of names that differ in the Unicode form of accents: `é` is one character, or `e` and a combining accent.

macOS writes the second form. A name is looked up as it is written. If it is absent and is not ASCII, a name that is
equal to it in Unicode's NFC form is found.
"""

import os
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from spn4cir.errors import InputError


class Spellings:
    """The names in a folder or a file.

    Args:
        names: the existing names.
        place: the folder or file, for messages.
    """

    def __init__(self, names: Iterable[str], place: Path) -> None:
        self._place = place
        self._alike: dict[str, list[str]] = {}
        for name in names:
            if not name.isascii():
                self._alike.setdefault(_composed(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Returns the existing name that equals a name up to the form of its accents, or None; None for an ASCII name.

        Raises InputError if two existing names equal it up to the form, and neither is exactly equal.
        """
        if name.isascii():
            return None
        alike = self._alike.get(_composed(name), [])
        if name in alike:
            return name
        if len(alike) > 1:
            shown = " and ".join(map(ascii, alike))
            raise InputError(
                f"{self._place}: '{name}' may be {shown}, which differ in how their accents are written; rename one"
            )
        return alike[0] if alike else None


def spelled(root: Path, name: str) -> Path:
    """Returns the path of an existing file below a folder, which may differ from the name in the form of its accents.

    Returns the path as it is written if no such file exists. Raises InputError if two files match.
    """
    path = root / name
    if name.isascii() or path.exists():
        return path
    found = root
    for part in Path(name).parts:
        own = found / part
        found = own if part.isascii() or own.exists() else found / (_spellings(found).find(part) or part)
    return found if found.exists() else path


def _spellings(folder: Path) -> Spellings:
    try:
        modified = folder.stat().st_mtime_ns
    except OSError:
        return Spellings((), folder)
    return _listed(folder, modified)


@cache
def _listed(folder: Path, modified: int) -> Spellings:  # noqa: ARG001 - a folder that changed is listed again
    return Spellings(os.listdir(folder) if folder.is_dir() else (), folder)  # noqa: PTH208 - names alone


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
