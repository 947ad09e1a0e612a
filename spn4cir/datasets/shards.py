"""Reads CC3M, in any of the three forms in which it is stored, as numbered parts of named images.

- Part files of the authors: `part_{n}.data` with JSON lines `{url, image, caption: {en}}`, beside a folder of images.
- Folders of img2dataset: `00000/000000001.jpg` with a `.json` and a `.txt` of the same name.
- Tars of webdataset: `00000.tar` with files as in the folders.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from spn4cir.datasets.records import Missing
from spn4cir.errors import InputError, some_names
from spn4cir.files import walk_once
from spn4cir.images.endings import image_endings, is_image, passed_over, passed_over_line, split_ending
from spn4cir.images.spelling import Spellings
from spn4cir.images.tars import member_names
from spn4cir.json_files import parse_json
from spn4cir.progress import progress
from spn4cir.readable import check_text_file

_PART_FILE = re.compile(r"part_(\d+)\.data")
_FOLDER = re.compile(r"(\d+)")
_TAR = re.compile(r"(?:.*\D)?(\d+)\.tar")
_SHOWN = 3
_COMPRESSED = re.compile(r".*\.(?:tar\.(?:gz|bz2|xz|zst|lz4)|tgz|tbz2?|txz)")


class Listed(NamedTuple):
    """An image of a part.

    Attributes:
        name: the image id.
        file: path of the image as a text, which takes less memory than a `Path`; the image may be absent. A member of
            a tar is `00000.tar/000000001.jpg`.
        part: number of the part file, folder or tar.
        line: the part file and its line that name the image; empty for an image of a folder or a tar.
    """

    name: str
    file: str
    part: int
    line: str = ""

    @property
    def path(self) -> Path:
        """Path of the image."""
        return Path(self.file)

    @property
    def place(self) -> str:
        """What names the image: the part file and its line, or the path; for messages."""
        return self.line or self.file


class Parts(NamedTuple):
    """The parts of a folder by number, and the function that reads the images of some of them."""

    places: Mapping[int, Path]
    read: Callable[[Mapping[int, Path]], Iterator[Listed]]


def image_id(file: str) -> str:
    """Returns the id of an image: the last part of a file name or path, of any machine, without an image ending."""
    name = PureWindowsPath(file).name  # splits at both kinds of slash
    stem, ending = split_ending(name)
    return stem if ending in image_endings() else name


def find_parts(root: Path, missing: Missing) -> Parts:
    """Finds the parts of a folder of CC3M, by number.

    Args:
        root: the folder.
        missing: whether lines of part files that name no image are an error or are left out.

    Raises:
        InputError: the folder is absent, has none or several of the three forms, contains compressed tars, or has two
            parts of one number.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; link the folder of CC3M there")
    names = sorted(os.listdir(root))  # noqa: PTH208 - names alone: they may be millions
    if compressed := [name for name in names if _COMPRESSED.fullmatch(name)]:
        raise InputError(
            f"{root / compressed[0]}: is compressed, so that no image can be read by itself; decompress it first"
        )
    files, tars = _numbered(root, names, _PART_FILE, Path.is_file), _numbered(root, names, _TAR, Path.is_file)
    folders = _numbered(root, names, _FOLDER, Path.is_dir)
    if files and not any(_has_sidecars(folder) for folder in folders.values()):
        folders = {}  # they contain the images of the part files
    forms = (
        Parts(files, partial(_read_part_files, root, missing)),
        Parts(folders, _read_folders),
        Parts(tars, _read_tars),
    )
    return _only(root, [form for form in forms if form.places])


def _only(root: Path, found: list[Parts]) -> Parts:
    """Returns the one form that the folder has. Raises InputError for none or several."""
    if not found:
        raise InputError(
            f"{root}: contains neither part_{{n}}.data files with an image folder, nor numbered folders of images, "
            "nor numbered .tar files; link the folder of CC3M there"
        )
    if len(found) > 1:
        firsts = " and ".join(next(iter(form.places.values())).name for form in found)
        raise InputError(f"{root}: contains CC3M in {len(found)} forms ({firsts}); keep one, move the other elsewhere")
    return found[0]


def _numbered(root: Path, names: list[str], pattern: re.Pattern[str], kind: Callable[[Path], bool]) -> dict[int, Path]:
    """Returns the paths of the names that match, by number and in number order."""
    places: dict[int, Path] = {}
    for name in names:
        found = pattern.fullmatch(name)
        if not found or not kind(root / name):
            continue
        number = int(found[1])
        if number in places:
            raise InputError(f"{root}: {places[number].name} and {name} both have number {number}; move one elsewhere")
        places[number] = root / name
    return dict(sorted(places.items()))


def _has_sidecars(folder: Path) -> bool:
    """Whether img2dataset wrote the folder: it contains a `.json` or `.txt` file."""
    with os.scandir(folder) as entries:
        return any(entry.name.endswith((".json", ".txt")) for entry in entries)


def _read_part_files(root: Path, missing: Missing, places: Mapping[int, Path]) -> Iterator[Listed]:
    named = [
        (part, place, number, file) for part, place in places.items() for number, file in _part_lines(place, missing)
    ]
    folder = root / "images" if (root / "images").is_dir() else root
    on_disk = _find_images(folder, frozenset(image_id(file) for *_, file in named))
    for part, place, number, file in named:
        name = image_id(file)
        path = on_disk.get(name, folder / PureWindowsPath(file).name)
        yield Listed(name, str(path), part, f"{place.name}: line {number}")


def _part_lines(path: Path, missing: Missing) -> Iterator[tuple[int, str]]:
    """Yields the number of each line and the image file that it names; empty lines are skipped.

    Raises InputError for a line that names no image, unless `missing` is skip: then the number of lines that are left
    out is reported on stderr.
    """
    left_out = []
    check_text_file(path)
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield number, _named_image(line)
            except ValueError as error:
                if missing == "error":
                    raise InputError(
                        f"{path}: line {number} {error}; download the file again, correct the line, or set missing: "
                        "skip to leave such lines out"
                    ) from None
                left_out.append(str(number))
    if left_out:
        lines = some_names(left_out, _SHOWN)
        print(f"{path}: left out {len(left_out)} lines that name no image: {lines}", file=sys.stderr)


def _named_image(line: bytes) -> str:
    """Returns the image file that a line of a part file names. Raises ValueError, with the fault, for another line."""
    try:
        record: Any = parse_json(line)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    file = record.get("image") if isinstance(record, dict) else None
    if not isinstance(file, str) or not image_id(file):
        raise ValueError(f"names no image (got {str(record)[:80]}), expected {{url, image, caption}}")
    return file


def _find_images(folder: Path, wanted: frozenset[str]) -> dict[str, Path]:
    """Finds the wanted images in the folder and its sub-folders; the paths in part files are from other machines."""
    found: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for place, _, files in walk_once(folder):
        for file in sorted(files):
            name = image_id(file)
            path = Path(place, file)
            if name not in wanted:
                if not name.isascii():
                    others[name] = path
                continue
            if name in found:
                raise InputError(f"{found[name]} and {path} are two images of one id '{name}'; keep one of them")
            found[name] = path
    spellings = Spellings(others, folder)
    for name in wanted - found.keys() if others else ():
        if (other := spellings.find(name)) is not None:
            found[name] = others[other]
    return found


def _read_folders(places: Mapping[int, Path]) -> Iterator[Listed]:
    yield from _listed((part, folder, sorted(os.listdir(folder))) for part, folder in places.items())  # noqa: PTH208


def _read_tars(places: Mapping[int, Path]) -> Iterator[Listed]:
    tars = progress(places.items(), len(places), "read the headers of tars", "tars")
    yield from _listed((part, tar, member_names(tar)) for part, tar in tars)


def _listed(parts: Iterable[tuple[int, Path, list[str]]]) -> Iterator[Listed]:
    """Yields the images of folders or tars; a line on stderr counts files that are neither images nor captions."""
    passed: Counter[str] = Counter()
    for part, place, files in parts:
        passed += passed_over(file for file in files if not file.endswith(".txt"))
        for file in files:
            if is_image(file):
                yield Listed(image_id(file), str(place / file), part)
    if line := passed_over_line(passed):
        print(line, file=sys.stderr)
