"""Names whose accents are written in another way: `é` is one letter, or an `e` and an accent that a Mac put behind it.

Both look the same, and a lookup of one does not find the other. A name is looked up as it is written; only where that
is not there, and only for names that are not ASCII, the one that is equal to it by Unicode's NFC is found.
"""

import os
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from spn4cir.errors import InputError


class Spellings:
    """The names of one place.

    Args:
        names: as they are there.
        place: for messages.
    """

    def __init__(self, names: Iterable[str], place: Path) -> None:
        self._place = place
        self._alike: dict[str, list[str]] = {}
        for name in names:
            if not name.isascii():
                self._alike.setdefault(_composed(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The name as it is there, in whatever way its accents are written; None where it is not.

        Raises InputError where two names are equal to it but for that, and neither is written as it is.
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
    """The path of a file below a folder, in whatever way the accents of its name and of its folders are written.

    The path as it is written where nothing is there. Raises InputError as `Spellings.find`.
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
