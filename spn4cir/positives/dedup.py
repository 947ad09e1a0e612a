"""Deduplication: images with equal decoded pixels count as one image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from spn4cir.datasets.json_records import JSON_ERRORS, json_reader
from spn4cir.errors import InputError
from spn4cir.images.decoding import pixel_digest
from spn4cir.images.processes import map_in_processes
from spn4cir.images.workers import Workers
from spn4cir.json_files import read_json, write_json
from spn4cir.packed import PackedPaths, PackedTexts
from spn4cir.positives.digest_file import appended, read_digests
from spn4cir.positives.equal_images import DIGEST_BYTES, group_equal
from spn4cir.progress import progress
from spn4cir.types import Gallery, UniqueImages

_DIGESTS = "digests.bin"


def deduplicate(gallery: Gallery, workers: Workers, work: Path | None = None) -> UniqueImages:
    """Keeps the first image of each set of images with equal decoded pixels.

    Images are equal if they have the same width, height and RGB values, in any file format and colour mode. The time is
    linear in the number of images, and memory contains a digest of 32 bytes of each image.

    Args:
        gallery: the images; the first of several equal images is kept.
        workers: number of processes that decode images, where 0 decodes in the calling process; or a cluster.
        work: folder for these images, in which a killed run left its digests, or an empty one. The images that have one
            there are not decoded again. None: digests are not stored.

    Raises:
        InputError: the gallery is empty, an image cannot be decoded, the digests cannot be stored, or the folder
            contains more digests than there are images.
    """
    if not len(gallery):
        raise InputError("dedup: there are no images (0 names); check the data folder and its annotation files")
    digests = bytearray() if work is None else read_digests(work / _DIGESTS)
    if len(digests) > len(gallery) * DIGEST_BYTES:
        raise InputError(f"{work}: contains digests of more than {len(gallery):,} images; remove the folder")
    if done := len(digests) // DIGEST_BYTES:
        print(f"dedup: resumed after {done:,} of {len(gallery):,} images", flush=True)
    with nullcontext() if work is None else appended(work / _DIGESTS) as keep:
        for digest in progress(_digests(gallery.paths[done:], workers), len(gallery), "dedup", "images", done):
            digests += digest
            if keep is not None:
                keep(digest)
    kept, rows = group_equal(digests)
    unique = Gallery(tuple(gallery.names[i] for i in kept), PackedPaths(gallery.paths[i] for i in kept))
    return UniqueImages(unique, dict(zip(gallery.names, rows.tolist(), strict=True)))


def _digests(paths: Sequence[Path], workers: Workers) -> Iterator[bytes]:
    return map_in_processes(pixel_digest, paths, workers, "dedup")


def write_optimized_images(unique: UniqueImages, path: Path) -> None:
    """Writes the published form atomically: a JSON list of the kept names, their paths, and the row of every name."""
    paths = (image.as_posix() for image in unique.gallery.paths)
    write_json(path, [unique.gallery.names, paths, dict(unique.row)])


def read_optimized_images(path: Path, resolve: Callable[[str], Path]) -> UniqueImages:
    """Reads the published form.

    Args:
        path: the JSON file.
        resolve: returns the path of an image by its name; the paths in the file may be those of another machine.

    Raises:
        InputError: the file is absent, does not parse, or does not have this form.
    """
    try:
        names, row = _read_parts(path)
    except JSON_ERRORS:  # reads the whole file, to say what is wrong
        names, row = _read_whole(path)
    return UniqueImages(Gallery(tuple(names), PackedPaths(map(resolve, names))), row)


def _read_parts(path: Path) -> tuple[list[str], dict[str, int]]:
    """Returns the kept names and the row of every name; both share their texts. Raises one of `JSON_ERRORS`."""
    kept, paths, row = PackedTexts(()), 0, {}
    with json_reader(path) as reader:
        for place in reader.places():
            if place == 0:
                kept = PackedTexts(reader.texts())
            elif place == 1:
                paths = sum(1 for _ in reader.elements())
            elif place == 2:
                row = dict(reader.entries())
            else:
                raise ValueError(place)
    names = [""] * len(kept)
    for name, position in row.items():
        if type(position) is int and 0 <= position < len(kept) and kept[position] == name:
            names[position] = name
    if problem := _row_problem(names, paths, row):
        raise ValueError(problem)
    return names, row


def _read_whole(path: Path) -> tuple[list[str], dict[str, int]]:
    """Returns what `_read_parts` returns. Raises InputError for a file of another form."""
    content = read_json(path)
    if problem := _form_problem(content):
        raise InputError(
            f"{path}: is not a list of kept names, their paths, and a map of every name to its row ({problem}); "
            "make it with: spn4cir dedup, or download it again"
        )
    return content[0], content[2]


def _form_problem(content: Any) -> str | None:
    """Returns the fault of the parsed file, or None."""
    if not isinstance(content, list) or len(content) != 3:
        return f"got {type(content).__name__}{f' of {len(content)}' if isinstance(content, list) else ''}"
    names, paths, row = content
    if not isinstance(names, list) or not isinstance(paths, list) or not isinstance(row, dict):
        return f"got {', '.join(type(part).__name__ for part in content)}"
    return _row_problem(names, len(paths), row)


def _row_problem(names: list[Any], paths: int, row: dict[str, Any]) -> str | None:
    """Returns what is wrong with the kept names, the number of paths and the row of every name, or None."""
    if len(names) != paths or not names:
        return f"{len(names)} names, {paths} paths"
    for name, position in row.items():
        if type(position) is not int or not 0 <= position < len(names):
            return f"{name!r} has row {position!r}, expected 0 to {len(names) - 1}"
    for position, name in enumerate(names):
        if not isinstance(name, str) or row.get(name) != position:
            return f"kept name {name!r} is at {position} but its row is {row.get(str(name))!r}"
    return None
