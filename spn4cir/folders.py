"""Pictures in a folder, named by where they lie; free of torch."""

import os
from collections.abc import Iterable
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.files import walk_once
from spn4cir.types import Gallery

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def folder_gallery(folder: Path) -> Gallery:
    """Every image in a folder and the folders below it, named by its path from there and sorted by name.

    An image is a file with one of `SUFFIXES`; names that begin with a dot are passed over, links are followed.
    Raises InputError for a folder that is not there or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images as the gallery")
    names = picture_names(folder)
    if not names:
        raise InputError(f"{folder}: the gallery is empty: no file ends in {', '.join(SUFFIXES)}; name another folder")
    return Gallery(tuple(names), tuple(folder / name for name in names))


def picture_names(folder: Path) -> list[str]:
    """The paths of the images from the folder, as above; none where it holds none."""
    names: list[str] = []
    for place, folders, files in walk_once(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        names.extend(Path(place, name).relative_to(folder).as_posix() for name in images)
    return sorted(names)


def listed_gallery(paths: Iterable[Path]) -> tuple[Path, Gallery]:
    """The folder that all pictures of a list lie below, and the pictures, named by their path from there.

    Raises InputError for an empty list.
    """
    places = sorted({path.absolute() for path in paths})
    if not places:
        raise InputError("the gallery is empty: the list holds no path; name a folder or pictures")
    root = Path(os.path.commonpath([place.parent for place in places]))
    return root, Gallery(tuple(place.relative_to(root).as_posix() for place in places), tuple(places))


def named_below(root: Path, paths: Iterable[Path]) -> Gallery:
    """Pictures named by their path from `root`, and those that lie elsewhere by their file's name.

    Raises InputError where two would have one name.
    """
    named: dict[str, Path] = {}
    for path in dict.fromkeys(each.absolute() for each in paths):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        if name in named:
            raise InputError(f"{path}: is called '{name}' as {named[name]} is; rename one of the two")
        named[name] = path
    return Gallery(tuple(named), tuple(named.values()))
