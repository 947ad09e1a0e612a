"""Galleries of the images in a folder, named by their paths. This module does not import torch."""

import os
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from spn4cir.errors import InputError
from spn4cir.files import walk_once
from spn4cir.images.endings import EXPECTED_ENDINGS, is_image, passed_over, passed_over_line
from spn4cir.packed import PackedPaths, PackedTexts
from spn4cir.progress import say_once
from spn4cir.types import Gallery


class Scan(NamedTuple):
    """The files in a folder and its subfolders.

    Attributes:
        names: paths of the images relative to the folder, sorted.
        passed: number of other files, by ending.
    """

    names: list[str]
    passed: Counter[str]


def folder_gallery(folder: Path) -> Gallery:
    """Returns the images in a folder and its subfolders, named by their relative paths and sorted by name.

    An image is a file with an ending of `spn4cir.images.endings`. Names that begin with a dot are skipped, links are
    followed. A line on stderr, once in a process, reports the number of skipped files, by ending.

    Raises InputError if the folder does not exist or contains no image.
    """
    found = require_images(folder)
    if line := passed_over_line(found.passed):
        say_once(f"{folder}: {line}")
    return Gallery(tuple(found.names), PackedPaths(folder / name for name in found.names))


def require_images(folder: Path) -> Scan:
    """Scans a folder. Raises InputError if the folder does not exist or contains no image."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images")
    found = scan_folder(folder)
    if not found.names:
        passed = f" ({line})" if (line := passed_over_line(found.passed)) else ""
        raise InputError(
            f"{folder}: the gallery is empty: no file ends in {EXPECTED_ENDINGS}{passed}; name another folder"
        )
    return found


def scan_folder(folder: Path) -> Scan:
    """Scans a folder and its subfolders for images and other files."""
    names: list[str] = []
    passed: Counter[str] = Counter()
    for place, folders, files in walk_once(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in files if is_image(name) and not name.startswith(".")]
        names.extend(Path(place, name).relative_to(folder).as_posix() for name in images)
        passed += passed_over(files)
    return Scan(sorted(names), passed)


def listed_gallery(paths: Iterable[Path]) -> tuple[Path, Gallery]:
    """Returns the common folder of a list of images, and the images, named by their paths relative to it.

    Raises InputError for an empty list, and for a path that no file can have.
    """
    # Texts, as paths take several times their memory; in the order of paths, of which no name contains a NUL.
    texts = sorted(map(_absolute_text, paths), key=lambda text: text.replace(os.sep, "\0"))
    if not texts:
        raise InputError("the gallery is empty: the list contains no path; name a folder or images")
    places = PackedTexts(text for text, _ in groupby(texts))
    root = Path(os.path.commonpath([Path(places[0]).parent, Path(places[-1]).parent]))
    start = len(str(root).rstrip(os.sep)) + 1
    return root, Gallery(tuple(text[start:] or "." for text in places), PackedPaths(places))


def _absolute_text(path: Path) -> str:
    """The absolute path, with one slash in front: a `Path` keeps two, which mean the same on the known systems.

    Raises InputError for a path with a NUL, which no file has.
    """
    text = str(path.absolute())
    if "\0" in text:
        raise InputError(f"{text}: the path contains a NUL; correct the list of images")
    return text if not text.startswith("//") else "/" + text.lstrip("/")


def named_below(root: Path, paths: Iterable[Path]) -> Gallery:
    """Names images by their path relative to `root`, and images outside `root` by the name of their file.

    Raises InputError if two images have one name.
    """
    named: dict[str, Path] = {}
    for path in dict.fromkeys(each.absolute() for each in paths):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        if name in named:
            raise InputError(f"{path}: is called '{name}' as {named[name]} is; rename one of the two")
        named[name] = path
    return Gallery(tuple(named), tuple(named.values()))
