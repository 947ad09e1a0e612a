"""Checks of the places to write, before a command does any work: they can be written, and replace nothing it reads."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.readable import real_path

# The files by which a folder is an index or a hub folder; their modules import torch.
_WHOLE = (("index.json", "pictures.parquet"), ("config.json", "model.safetensors"))
_OTHER_FILE = "give the name of another file to write"
_OUTSIDE = "name a file outside it"


def check_outputs(
    *files: Path | None,
    reads: Iterable[Path | str | None] = (),
    images: Path | None = None,
    sheet: Path | None = None,
    all_read: tuple[str, ...] = (),
) -> None:
    """Checks the files that a command writes.

    No two of them are the same file, and none is a file that the command reads, under whatever name: a path, a link or
    a hard link. In a folder that is read, no existing file is replaced and no image is added; a new file of another
    kind may be written there, except in an index or a hub folder. In a folder of which only the images are read, other
    files may be replaced too. Links inside a folder are not followed. An existing image is only replaced by a contact
    sheet. A params.yaml in this folder or above it counts as read.

    Args:
        files: the files to write; None for an option that was not given.
        reads: the files and folders that are read, and names of pretrained networks; None for an option that was not
            given.
        images: a folder of which only the images are read.
        sheet: the contact sheet to write.
        all_read: endings of files, such as `.parquet`, of which all in a folder that is read are read.

    Raises:
        InputError: a file breaks one of these rules or cannot be written.
    """
    places = [each for each in (*files, sheet) if each is not None]
    for place in places:
        check_place(place)
    _check_different(places)
    known = _existing(reads)
    for place in places:
        for read in known:
            _check_file(place, read)
            if place.suffix in all_read and _is_inside(place, read):
                raise InputError(f"{place}: is inside {read}, of which all {place.suffix} files are read; {_OUTSIDE}")
        for read in _existing([images]):
            _check_file(place, read, other_files=not any(map(_is_image, _places(place))))
        if place is not sheet and place.exists() and _is_image(place):
            raise InputError(f"{place}: is an image, which only an image may replace; {_OTHER_FILE}")


def check_output_folder(folder: Path, reads: Iterable[Path | str | None] = ()) -> None:
    """Checks a folder that a command writes as a whole: nothing that is read is in the folder, or is the folder.

    The folder itself may be in a folder that is read.

    Args:
        folder: the folder to write.
        reads: as in `check_outputs`.

    Raises:
        InputError: the folder contains what is read, or cannot be written.
    """
    check_place(folder, folder=True)
    real = real_path(folder)
    for read in _existing(reads):
        places = _places(read)
        if real in places:
            raise InputError(f"{folder}: is {read}, which is read; give the name of another folder to write")
        if any(real in each.parents for each in places):
            raise InputError(f"{folder}: contains {read}, which is read; give the name of another folder to write")


def check_place(path: Path, folder: bool = False) -> None:
    """Raises InputError for a place that cannot be written, so that no work is lost."""
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        found = "folder" if path.is_dir() else "file" if path.is_file() else "device or a pipe"
        raise InputError(f"{path}: is a {found}; give the name of a {'folder' if folder else 'file'} to write")
    place = path.absolute()
    # A link to nothing is replaced by a file; it cannot become a folder, or contain anything.
    places = (place, *place.parents) if folder or path.exists() else place.parents
    existing = next(each for each in places if os.path.lexists(each))
    if not os.access(existing, os.W_OK) or (existing != place and not existing.is_dir()):
        raise InputError(f"{path}: {existing} cannot be written to; choose another place")


def _check_different(places: Sequence[Path]) -> None:
    """Raises InputError if two outputs are the same file."""
    for number, place in enumerate(places):
        if any(_is_same(place, other) for other in places[:number]):
            raise InputError(f"{place}: is given for two outputs; {_OTHER_FILE}")


def _existing(reads: Iterable[Path | str | None]) -> list[Path]:
    """What is read and exists: also the index or hub folder that a file is in, and the settings in reach."""
    from spn4cir.config.params import LOCAL_NETWORK, PARAMS_FILE

    names = (str(each).removeprefix(LOCAL_NETWORK) for each in reads if each is not None)
    paths = [Path(name) for name in map(os.path.expanduser, names) if os.path.exists(name)]  # noqa: PTH110 - any name
    folders = [path.parent for path in paths if _is_whole(path.parent)]
    here = Path.cwd()
    settings = (folder / PARAMS_FILE for folder in (here, *here.parents))
    return [*paths, *folders, *(path for path in settings if path.is_file())]


def _check_file(place: Path, read: Path, other_files: bool = False) -> None:
    """Raises InputError if the file `place` is what is read, or would replace or spoil a part of it.

    With `other_files`, the place is none of the files that are read in the folder.
    """
    if _is_same(place, read):
        known = f"is {read}, which is read" if str(place) != str(read) else "is read by the same command"
        raise InputError(f"{place}: {known}; {_OTHER_FILE}")
    if not _is_inside(place, read):
        return
    if _is_whole(read):
        raise InputError(f"{place}: is inside {read}, which is read; {_OUTSIDE}")
    if os.path.lexists(place) and not other_files:
        raise InputError(
            f"{place}: exists in {read}, which is only read; name a new file, or one outside it, or remove an earlier "
            "result"
        )
    if _is_image(place):
        raise InputError(f"{place}: is an image inside {read}, whose images are read; {_OUTSIDE}")


def _is_inside(place: Path, folder: Path) -> bool:
    """Whether a file, or the file that it leads to as a link, is in a folder or below it."""
    return any(real_path(folder) in each.parents for each in _places(place))


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also as links or hard links, or are one place where nothing is yet."""
    if one.exists() and other.exists() and one.samefile(other):
        return True
    return not {*_places(one)}.isdisjoint(_places(other))


def _places(path: Path) -> tuple[Path, Path]:
    """The place of a file, which a rename replaces, and the place that it leads to if it is a link."""
    return real_path(path.parent) / path.name, real_path(path)


def _is_whole(folder: Path) -> bool:
    """Whether a folder is an index or a hub folder, to which no other file may be added."""
    return any(all((folder / name).is_file() for name in names) for names in _WHOLE)


def _is_image(path: Path) -> bool:
    from spn4cir.images.endings import is_image

    return is_image(path.name)
