"""Data sets of several parts (categories, tasks); a folder may contain only some of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from spn4cir.datasets.records import Missing
from spn4cir.errors import InputError


def choose_parts(chosen: Sequence[str], known: Sequence[str], setting: str, root: Path) -> tuple[str, ...]:
    """Returns the parts of a data set that a setting names, in the data set's own order.

    Raises InputError if the setting names no part or an unknown one.
    """
    if not chosen or (strange := [part for part in chosen if part not in known]):
        found = f"'{strange[0]}' is not known" if chosen else "names none"
        raise InputError(f"{root}: {setting}: {found}; choose from: {', '.join(known)}")
    return tuple(part for part in known if part in chosen)


def naming_parts(setting: str, there: Sequence[str]) -> str:
    """Returns the advice of messages about absent parts of a data set."""
    return (
        f"add the absent parts, or choose the others: {setting}: [{', '.join(there)}] in params.yaml, or --{setting} "
        f"{','.join(there)}"
    )


def are_enough(there: Sequence[bool], missing: Missing) -> bool:
    """Whether enough images of a part are on disk to read it: at least half of them or, under `skip`, one."""
    return any(there) if missing == "skip" else 2 * sum(there) >= len(there)


def require_images(
    part: str, parts: Sequence[str], has_images: Callable[[str], bool], setting: str, place: Path
) -> None:
    """Raises InputError, which names the setting, if a part lacks its images and other parts have theirs.

    Args:
        part: the part that is read.
        parts: all parts that are read.
        has_images: whether enough images of a part are on disk.
        setting: the setting that chooses the parts.
        place: the file that names the images, for the message.
    """
    if has_images(part):
        return
    if there := [other for other in parts if other != part and has_images(other)]:
        raise InputError(f"{place}: the images of '{part}' are not on disk; {naming_parts(setting, there)}")
