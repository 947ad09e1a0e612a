"""Data sets of several parts (categories, tasks), of which a folder may contain some alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

from spn4cir.datasets.records import Missing
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


def are_enough(there: Sequence[bool], missing: Missing) -> bool:
    """Whether images are there to read a part: at least half of them, or under `skip` any."""
    return any(there) if missing == "skip" else 2 * sum(there) >= len(there)


def require_images(
    part: str, parts: Sequence[str], has_images: Callable[[str], bool], setting: str, place: Path
) -> None:
    """Raises InputError that names the setting, where a part has no images and other parts have theirs.

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
