"""Reads fields of annotation records, and leaves out triplets and images that are absent or broken."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import compress
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.errors import InputError
from spn4cir.images.crops import split_view
from spn4cir.images.reading import is_there
from spn4cir.images.usable import unusable
from spn4cir.types import CaptionedImage, Gallery, Triplet

Missing = Literal["error", "skip"]
SKIP = "--missing skip (in params.yaml missing: skip)"
_LISTED = "spn4cir check-data lists them all"
_LIMIT = 1 << 63


def checked_list(values: Any, fits: Callable[[Any], bool], kind: str, path: Path) -> list[Any]:
    """Returns a list. Raises InputError unless it is one of the kind; the message names the first other element.

    Args:
        values: parsed JSON.
        fits: whether an element is of the kind.
        kind: the kind in the plural, for the message.
        path: the file, for the message.
    """
    if not isinstance(values, list):
        raise InputError(f"{path}: expected a JSON list of {kind}; check that this is the annotation file")
    wrong = next((position for position, value in enumerate(values) if not fits(value)), None)
    if wrong is not None:
        raise InputError(
            f"{path}: element {wrong} is {values[wrong]!r}, expected a JSON list of {kind}; correct it, or check that "
            "this is the annotation file"
        )
    return values


def field(record: dict[str, Any], name: str, kind: type, path: Path, position: int) -> Any:
    """Reads a field. A string must not be blank; `text_field` reads annotators' texts, which may be blank.

    Raises InputError if the field is absent, null, blank or of another type.
    """
    if name not in record:
        raise InputError(f"{path}: triplet {position} lacks the field '{name}'; add it or remove the triplet")
    value = record[name]
    if not isinstance(value, kind) or (kind is str and not str(value).strip()):
        raise InputError(
            f"{path}: triplet {position}: field '{name}' is {value!r}, expected a {kind.__name__} that is not empty"
        )
    return value


def text_field(record: dict[str, Any], name: str, path: Path, position: int) -> str:
    """Reads an annotated text, unchanged; published files contain blank ones. Raises InputError if it is not text."""
    text = field(record, name, object, path, position)
    if not isinstance(text, str):
        raise InputError(f"{path}: triplet {position}: field '{name}' is {text!r}, expected text")
    return text


def integer_field(record: dict[str, Any], name: str, path: Path, position: int) -> int:
    """Reads an integer of at most 64 bits. Raises InputError for anything else, including true and false."""
    value = field(record, name, int, path, position)
    if isinstance(value, bool) or not -_LIMIT <= value < _LIMIT:
        raise InputError(f"{path}: triplet {position}: field '{name}' is {value}, expected an int of at most 64 bits")
    return int(value)


def list_field(record: dict[str, Any], name: str, kind: type, path: Path, position: int) -> list[Any]:
    """Reads a list of values of one type. Raises InputError for anything else."""
    values: list[Any] = field(record, name, list, path, position)
    if not all(type(value) is kind for value in values):
        raise InputError(
            f"{path}: triplet {position}: field '{name}' is {values!r}, expected a list of {kind.__name__}"
        )
    return values


def check_query_ids(triplets: Sequence[Triplet], what: str, path: Path) -> None:
    """Raises InputError for a query id that occurs twice; `what` names the id in the message, e.g. `pair id`."""
    seen: set[int] = set()
    for triplet in triplets:
        if triplet.query_id in seen:
            raise InputError(f"{path}: {what} {triplet.query_id} occurs twice; give each query an id of its own")
        seen.add(triplet.query_id)


def fill_template(template: str, fields: Mapping[str, str]) -> str:
    """Fills in a template. Raises InputError if it contains none of the fields, or others."""
    try:
        parts = [part for _, *part in Formatter().parse(template) if part[0] is not None]
    except ValueError:
        parts = []
    if not parts or any(name not in fields or spec or conversion for name, spec, conversion in parts):
        known = ", ".join(f"{{{name}}}" for name in fields)
        raise InputError(f"query_text '{template}' is not valid: expected some of the fields {known} and no other")
    return template.format(**fields)


def captions_field(record: dict[str, Any], name: str, path: Path, position: int) -> tuple[str, ...]:
    """Reads modification texts, a string or a list of strings, unchanged; published files contain empty ones too.

    Raises InputError if the field is absent, null, of another type, or an empty list.
    """
    value = field(record, name, object, path, position)
    captions = [value] if isinstance(value, str) else value
    if not isinstance(captions, list) or not captions:
        raise InputError(f"{path}: triplet {position}: field '{name}' is {value!r}, expected text or a list of texts")
    for caption in captions:
        if not isinstance(caption, str):
            raise InputError(f"{path}: triplet {position}: a text of field '{name}' is {caption!r}; write it as text")
    return tuple(captions)


def report_empty_texts(generated: Sequence[Triplet], path: Path) -> None:
    """Reports on stderr how many generated triplets have an empty text; such texts are used unchanged."""
    if empty := sum(triplet.has_empty_text for triplet in generated):
        print(
            f"{path}: {empty} of {len(generated)} generated triplets have an empty text, which is used as it is; "
            "check the captions that they were made from",
            file=sys.stderr,
        )


def on_disk(paths: Mapping[str, Path]) -> Callable[[str], Path | None]:
    """Returns a function from a name to its path; the result is None for an unknown name or an absent file."""

    def find(name: str) -> Path | None:
        path = paths.get(name)
        return path if path and is_there(path) else None

    return find


def present(
    triplets: Sequence[Triplet], find: Callable[[str], Path | None], missing: Missing, place: str
) -> tuple[Triplet, ...]:
    """Returns the triplets that have all images on disk; under `skip`, the images must also be decodable.

    Under `skip`, the number of triplets that are left out is reported on stderr.

    Args:
        triplets: triplets of one file.
        find: function from an image name to its path, None for an absent image.
        missing: whether the other triplets are an error or are left out.
        place: the file of the triplets, for messages.

    Raises:
        InputError: a triplet lacks an image, and `missing` is error.
    """
    lacking = _lacking(triplets, find, missing, place)
    return tuple(triplet for triplet in triplets if not _absent(triplet, lacking))


def present_generated(
    triplets: PackedTriplets, find: Callable[[str], Path | None], missing: Missing, place: str
) -> PackedTriplets:
    """Returns the generated triplets of a file that have all images on disk; under `skip`, also decodable ones.

    Under `skip`, the number of triplets that are left out is reported on stderr. Raises InputError if a triplet lacks
    an image, and `missing` is error.
    """
    lacking = _lacking(triplets, find, missing, place)
    return PackedTriplets(each for each in triplets if not _absent(each, lacking)) if lacking else triplets


def _lacking(triplets: Sequence[Triplet], find: Callable[[str], Path | None], missing: Missing, place: str) -> set[str]:
    """Returns the names of the images that triplets lack, and reports how many triplets; see `present`."""
    absent: set[str] = set()
    places: dict[str, Path] = {}
    for name in dict.fromkeys(name for each in triplets for name in (each.reference_name, *each.target_names)):
        path = find(name)
        if path is None:
            absent.add(name)
        elif missing == "skip":
            places[name] = path
    if absent and missing == "error":
        role, name = next(found for triplet in triplets if (found := _absent(triplet, absent)))
        raise InputError(
            f"{place}: {role} '{name}' has no image on disk or no entry in the split file; add the image, or leave "
            f"such triplets out by {SKIP}; {_LISTED}"
        )
    broken = _broken(places)
    lacking = absent | broken
    if left_out := sum(_absent(triplet, lacking) is not None for triplet in triplets) if lacking else 0:
        causes = _causes(len(absent), len(broken))
        print(f"{place}: left out {left_out} of {len(triplets)} triplets {causes}", file=sys.stderr)
    return lacking


def _absent(triplet: Triplet, names: Collection[str]) -> tuple[str, str] | None:
    """Returns the first of a triplet's images that is one of the names, with its role."""
    roles = [("reference", triplet.reference_name), *(("target", name) for name in triplet.target_names)]
    return next(((role, name) for role, name in roles if name in names), None)


def _broken(places: Mapping[str, Path]) -> set[str]:
    """Returns the names of images that cannot be decoded."""
    faults = unusable(places.values()) if places else ()
    return {name for name, path in places.items() if split_view(path)[0] in faults}


def _causes(absent: int, broken: int) -> str:
    return f"(images absent: {absent}, broken: {broken}; {_LISTED})"


def findable(triplets: Sequence[Triplet], missing: Missing, place: Path) -> list[Triplet]:
    """Returns the queries that do not have their reference, which is removed from the ranking, as a target.

    Raises InputError for the first other query, unless `missing` is skip: then the number of queries that are left out
    is reported on stderr.
    """
    kept = [triplet for triplet in triplets if triplet.reference_name not in triplet.target_names]
    if len(kept) < len(triplets):
        if missing == "error":
            own = next(triplet for triplet in triplets if triplet.reference_name in triplet.target_names)
            raise InputError(
                f"{place}: query {own.query_id} has its reference '{own.reference_name}' as its target; "
                f"correct it, or leave such queries out by {SKIP}"
            )
        count = len(triplets) - len(kept)
        print(f"{place}: left out {count} of {len(triplets)} queries whose target is their reference", file=sys.stderr)
    return kept


def present_gallery(names: Sequence[str], paths: Sequence[Path], missing: Missing, place: Path) -> tuple[Gallery, int]:
    """Returns the gallery of the images on disk, and the number of images that are left out.

    Under `skip`, images that are absent or cannot be decoded are left out, and their number is reported on stderr.

    Raises:
        InputError: an image is absent and `missing` is error, or no image is left.
    """
    there = _usable(paths, missing, place, "images of the gallery")
    if not any(there):
        raise InputError(f"{place}: the gallery is empty; check the split file and the image folder")
    return Gallery(tuple(compress(names, there)), tuple(compress(paths, there))), there.count(False)


def usable_gallery(gallery: Gallery, missing: Missing, place: Path) -> Gallery:
    """Leaves out images that cannot be decoded, under `skip`, and reports their number on stderr.

    All images must be on disk. With `missing=error` the gallery is returned unchanged.
    """
    faults = unusable(gallery.paths) if missing == "skip" else {}
    if not faults:
        return gallery
    print(f"{place}: left out {len(faults)} of {len(gallery)} images {_causes(0, len(faults))}", file=sys.stderr)
    kept = (name for name, path in zip(gallery.names, gallery.paths, strict=True) if path not in faults)
    return gallery.restrict(frozenset(kept))


def present_images(images: Sequence[CaptionedImage], missing: Missing, place: Path) -> tuple[CaptionedImage, ...]:
    """Returns the images to caption that are on disk; under `skip`, they must also be decodable.

    Under `skip`, the number of images that are left out is reported on stderr.

    Raises:
        InputError: an image is absent and `missing` is error, or no image is left.
    """
    there = _usable([image.path for image in images], missing, place, "images to caption")
    if not any(there):
        raise InputError(f"{place}: no image is left to caption; check the split file and the image folder")
    return tuple(compress(images, there))


def _usable(paths: Sequence[Path], missing: Missing, place: Path, what: str) -> list[bool]:
    there = [is_there(path) for path in paths]
    absent = there.count(False)
    if missing == "error":
        if absent:
            raise InputError(
                f"{place}: {absent} of {len(paths)} images are not on disk, the first is {paths[there.index(False)]}; "
                f"add them, or leave them out by {SKIP}; {_LISTED}"
            )
        return there
    faults = unusable(compress(paths, there))
    usable = [found and split_view(path)[0] not in faults for found, path in zip(there, paths, strict=True)]
    if left_out := usable.count(False):
        causes = _causes(absent, left_out - absent)
        print(f"{place}: left out {left_out} of {len(paths)} {what} {causes}", file=sys.stderr)
    return usable
