"""Pictures in a folder, named by where they lie; free of torch."""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from spn4cir.errors import InputError
from spn4cir.files import walk_once
from spn4cir.images.endings import EXPECTED_ENDINGS, is_image, passed_over, passed_over_line
from spn4cir.types import Gallery


class Scan(NamedTuple):
    """What a folder and the folders below it hold.

    Attributes:
        names: the paths of the pictures from the folder, sorted.
        passed: how many other files there are, by ending.
    """

    names: list[str]
    passed: Counter[str]


def folder_gallery(folder: Path) -> Gallery:
    """Every image in a folder and the folders below it, named by its path from there and sorted by name.

    An image is a file with an ending of `spn4cir.images.endings`; names that begin with a dot are passed over, links
    are followed. A line on stderr says how many files were passed over, by ending.

    Raises InputError for a folder that is not there or holds no image.
    """
    found = require_images(folder)
    if line := passed_over_line(found.passed):
        print(f"{folder}: {line}", file=sys.stderr)
    return Gallery(tuple(found.names), tuple(folder / name for name in found.names))


def require_images(folder: Path) -> Scan:
    """What the folder holds. Raises InputError as `folder_gallery`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images as the gallery")
    found = scan_folder(folder)
    if not found.names:
        passed = f" ({line})" if (line := passed_over_line(found.passed)) else ""
        raise InputError(
            f"{folder}: the gallery is empty: no file ends in {EXPECTED_ENDINGS}{passed}; name another folder"
        )
    return found


def scan_folder(folder: Path) -> Scan:
    """What the folder holds, pictures or not."""
    names: list[str] = []
    passed: Counter[str] = Counter()
    for place, folders, files in walk_once(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in files if is_image(name) and not name.startswith(".")]
        names.extend(Path(place, name).relative_to(folder).as_posix() for name in images)
        passed += passed_over(files)
    return Scan(sorted(names), passed)


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
