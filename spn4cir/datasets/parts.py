"""Data sets of several parts (categories, tasks), of which a folder may contain some alone."""

from collections.abc import Sequence
from pathlib import Path

from spn4cir.errors import InputError


def choose_parts(chosen: Sequence[str], known: Sequence[str], setting: str, root: Path) -> tuple[str, ...]:
    """The parts of a data set that a setting names, in the data set's own order.

    Raises InputError where it names none, or one that is not known.
    """
    if not chosen or (strange := [part for part in chosen if part not in known]):
        found = f"'{strange[0]}' is not known" if chosen else "names none"
        raise InputError(f"{root}: {setting}: {found}; choose of: {', '.join(known)}")
    return tuple(part for part in known if part in chosen)


def naming_parts(setting: str, there: Sequence[str]) -> str:
    """What to do where some parts of a data set are not there, for messages."""
    return (
        f"add what is absent, or name what is there: {setting}: [{', '.join(there)}] in params.yaml, or --{setting} "
        f"{','.join(there)}"
    )
