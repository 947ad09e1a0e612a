"""Listings: the generated triplets that a recipe learns from first, with the content of every image they name.

Where a data set has no annotated queries, those that were held out of the generated triplets stand beside them.

A stage that depends on a listing depends on just those triplets and images. Families that begin with annotated
triplets have an empty one, which no change of captions touches.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.files import read_json, write_json
from spn4cir.images.reading import content_hash, is_there
from spn4cir.types import Gallery, Triplet, UniqueImages


@dataclass(frozen=True)
class Listing:
    """What a listing holds.

    Attributes:
        triplets: the generated triplets.
        unique: the images that they name, equal files once.
        queries: generated triplets that were held out; their images are none of those.
    """

    triplets: tuple[Triplet, ...]
    unique: UniqueImages
    queries: tuple[Triplet, ...]


def write_listing(
    triplets: Sequence[Triplet],
    image_path: Callable[[str], Path],
    path: Path,
    workers: int = 1,
    queries: Sequence[Triplet] = (),
) -> None:
    """Writes the triplets with the place and the hash of every image they name; nothing but braces for no triplets.

    Args:
        triplets: generated triplets.
        image_path: where the image of a name lies, seen from the folder that the stages run in.
        path: the JSON file.
        workers: threads that hash images.
        queries: triplets that were held out; none where the data set has queries of its own.

    Raises:
        InputError: an image is not there.
    """
    names = list(dict.fromkeys(name for t in triplets for name in (t.reference_name, str(t.target_name))))
    places = [image_path(name) for name in names]
    for name, place in zip(names, places, strict=True):
        if not is_there(place):
            raise InputError(f"{place}: the image '{name}' of a generated triplet is not there; run caption again")
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        hashes = list(pool.map(content_hash, places))
    images = {name: [place.as_posix(), digest] for name, place, digest in zip(names, places, hashes, strict=True)}
    written = {"triplets": _plain(triplets), "images": images}
    write_json(path, written | ({"queries": _plain(queries)} if queries else {}) if triplets else {})


def _plain(triplets: Sequence[Triplet]) -> list[list[object]]:
    return [[t.reference_name, t.target_name, list(t.captions)] for t in triplets]


def read_listing(path: Path) -> Listing:
    """Reads what `write_listing` wrote. Raises InputError when it is empty or of another form."""
    content = read_json(path)
    if not isinstance(content, dict) or not content.get("triplets"):
        raise InputError(
            f"{path}: lists no generated triplets; set positives (checkpoint) and images (bank) of this family to "
            "generated, or both to annotated, and run triplets again"
        )
    names: list[str] = []
    paths: list[Path] = []
    row: dict[str, int] = {}
    kept: dict[str, int] = {}
    for name, (place, digest) in content["images"].items():
        if digest not in kept:
            kept[digest] = len(names)
            names.append(name)
            paths.append(Path(place))
        row[name] = kept[digest]
    unique = UniqueImages(Gallery(tuple(names), tuple(paths)), row)
    held_out = _triplets(content.get("queries", []))
    queries = tuple(replace(triplet, query_id=number) for number, triplet in enumerate(held_out))
    return Listing(_triplets(content["triplets"]), unique, queries)


def read_queries(path: Path) -> tuple[tuple[Triplet, ...], int]:
    """The queries that were held out, and how many triplets the listing has with them; none where it is empty."""
    if not read_json(path):
        return (), 0
    listing = read_listing(path)
    return listing.queries, len(listing.queries) + len(listing.triplets)


def _triplets(plain: list[list[Any]]) -> tuple[Triplet, ...]:
    return tuple(Triplet(reference, tuple(captions), target, generated=True) for reference, target, captions in plain)
