"""Listings: the generated triplets that a recipe trains on first, with the hash of every image in them.

For a data set without annotated queries, a listing also contains the generated triplets that were held out as queries.

A stage that depends on a listing depends only on these triplets and images. Families that train on annotated triplets
first have an empty listing, which does not change with the captions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from spn4cir.datasets.json_records import JSON_ERRORS, json_reader
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.errors import InputError
from spn4cir.images.reading import content_hash, is_there
from spn4cir.json_files import JsonEntries, read_json, write_json
from spn4cir.packed import PackedPaths, PackedTexts
from spn4cir.positives.equal_images import group_equal
from spn4cir.types import Gallery, Triplet, UniqueImages

# Images whose hashes are awaited at a time: each takes a kilobyte.
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Listing:
    """The content of a listing.

    Attributes:
        triplets: the generated triplets.
        unique: the images in `triplets`, equal files once.
        queries: generated triplets that were held out; none of their images is in `unique`.
    """

    triplets: Sequence[Triplet]
    unique: UniqueImages
    queries: tuple[Triplet, ...]


def write_listing(
    triplets: Sequence[Triplet],
    image_path: Callable[[str], Path],
    path: Path,
    workers: int = 1,
    queries: Sequence[Triplet] = (),
) -> None:
    """Writes the triplets with the path and the hash of every image in them; an empty JSON object without triplets.

    Args:
        triplets: generated triplets.
        image_path: returns the path of an image by its name, relative to the folder in which the stages run.
        path: the JSON file.
        workers: threads that hash images.
        queries: triplets that were held out; empty if the data set has annotated queries.

    Raises:
        InputError: an image does not exist.
    """
    names = list(dict.fromkeys(name for t in triplets for name in (t.reference_name, str(t.target_name))))
    places = PackedTexts(image_path(name).as_posix() for name in names)
    for name, place in zip(names, places, strict=True):
        if not is_there(Path(place)):
            raise InputError(f"{place}: the image '{name}' of a generated triplet is absent; run caption again")
    # Made before the file is open: the error of an image would be that of a file which cannot be written.
    hashes = PackedTexts(_hashes(places, max(workers, 1)))
    images = zip(names, zip(places, hashes, strict=True), strict=True)
    written = {"triplets": map(_plain, triplets), "images": JsonEntries(images)}
    write_json(path, written | ({"queries": map(_plain, queries)} if queries else {}) if triplets else {})


def _hashes(places: Iterable[str], workers: int) -> Iterator[str]:
    """Yields the hash of the file at each path, computed by threads."""
    waiting = iter(places)
    with ThreadPoolExecutor(workers) as pool:
        while part := [Path(place) for place in islice(waiting, _AT_ONCE)]:
            yield from pool.map(content_hash, part)


def _plain(triplet: Triplet) -> list[object]:
    return [triplet.reference_name, triplet.target_name, triplet.captions]


def read_listing(path: Path) -> Listing:
    """Reads a file of `write_listing`. Raises InputError if it lists no triplets, or is of another form."""
    return _filled(_read(path), path)


def read_listed_images(path: Path) -> UniqueImages:
    """Reads the unique images of a file of `write_listing`. Raises the errors of `read_listing`."""
    return _filled(_read(path, images_only=True), path).unique


def read_queries(path: Path) -> tuple[tuple[Triplet, ...], int]:
    """Returns the held-out queries, and the number of triplets with them; no queries and 0 for an empty listing."""
    listing = _read(path)
    return listing.queries, len(listing.queries) + len(listing.triplets)


def _filled(listing: Listing, path: Path) -> Listing:
    if not len(listing.unique.gallery):
        raise InputError(
            f"{path}: lists no generated triplets; set positives (checkpoint) and images (bank) of this family to "
            "generated, or both to annotated, and run triplets again"
        )
    return listing


def _read(path: Path, images_only: bool = False) -> Listing:
    """Reads a file; of its triplets, none with `images_only`. An empty listing has no images."""
    triplets: dict[str, PackedTriplets] = {}
    unique = UniqueImages(Gallery((), ()), {})
    try:
        with json_reader(path) as reader:
            for key in reader.each_key():
                if key == "images":
                    unique = _unique(reader.entries())
                else:
                    found = map(_triplet, reader.elements())
                    triplets[key] = PackedTriplets(triplet for triplet in found if not images_only)
    except (*JSON_ERRORS, TypeError, AttributeError):
        if read_json(path):  # read whole, for the error with its place
            raise InputError(f"{path}: is not a listing of triplets and images; run triplets again") from None
    queries = (replace(triplet, query_id=number) for number, triplet in enumerate(triplets.get("queries", ())))
    return Listing(triplets.get("triplets", PackedTriplets()), unique, tuple(queries))


def _unique(images: Iterable[tuple[str, tuple[str, str]]]) -> UniqueImages:
    """Returns the unique images, from the name of each, its path and its hash."""
    names: list[str] = []
    digests = bytearray()

    def places() -> Iterator[str]:
        for name, (place, digest) in images:
            names.append(name)
            digests.extend(bytes.fromhex(digest))
            yield place

    paths = PackedTexts(places())
    kept, rows = group_equal(digests)
    gallery = Gallery(tuple(names[i] for i in kept), PackedPaths(PackedTexts(paths[i] for i in kept)))
    return UniqueImages(gallery, dict(zip(names, rows.tolist(), strict=True)))


def _triplet(plain: list[Any]) -> Triplet:
    reference, target, captions = plain
    return Triplet(reference, tuple(captions), target, generated=True)
