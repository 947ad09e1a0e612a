"""Caption files in the published form: a JSON list of `{image_id, caption, image_path}`.

A caption may be empty. The record is written all the same, because the original code looks up every image and stops
where a record is absent. No triplet is written from an empty caption.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spn4cir.datasets.json_records import JSON_ERRORS, json_reader
from spn4cir.errors import InputError, some_names
from spn4cir.json_files import read_json, write_json
from spn4cir.types import CaptionedImage

_SHOWN = 3


def read_captions(path: Path) -> dict[str, str]:
    """Reads captions by image name from a caption file; other keys and the image paths are ignored.

    If an image occurs twice, the last caption is used, as in the original code: FashionIQ's split files share 1,180
    names between shirt and toptee, and the published captions contain each under both. A blank caption becomes the
    empty string, and is used only if the file has no other caption of the image.

    Raises InputError, which names the record, for a record without a required field.
    """
    try:
        with json_reader(path) as reader:
            return _captions(reader.elements(), path)
    except (*JSON_ERRORS, InputError):  # reads the whole file, to say what is wrong
        records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path}: contains a {type(records).__name__}, expected a list of {{image_id, caption}}")
    return _captions(records, path)


def _captions(records: Iterable[Any], path: Path) -> dict[str, str]:
    captions: dict[str, str] = {}
    for position, record in enumerate(records):
        name, caption = (record.get(field) if isinstance(record, dict) else None for field in ("image_id", "caption"))
        if not isinstance(name, str) or not name.strip() or not isinstance(caption, str):
            field = "caption" if isinstance(name, str) and name.strip() else "image_id"
            raise InputError(
                f"{path}: record {position} has no {field} (got {str(record)[:80]}); "
                "write the file again with caption.<dataset>.source: make, or correct the record"
            )
        captions[name] = caption.strip() or captions.get(name, "")
    return captions


def caption_record(image: CaptionedImage, caption: str) -> dict[str, str]:
    """Returns the record of an image; the caption is empty if there is none."""
    return {"image_id": image.name, "caption": caption, "image_path": str(image.path)}


def write_captions(records: Sequence[Mapping[str, str]], path: Path) -> None:
    """Writes the records of `caption_record` atomically."""
    write_json(path, list(records))


def count_empty(captions: Mapping[str, str], file: str) -> int:
    """Counts the images with an empty caption, and reports the count and the first names on stderr.

    Args:
        captions: captions by image name, as `read_captions` returns them.
        file: name of the caption file, for the message.
    """
    empty = [name for name, caption in captions.items() if not caption]
    if empty:
        print(
            f"{file}: {len(empty)} of {len(captions)} images have an empty caption ({some_names(empty, _SHOWN)}); "
            "no triplet is made from them",
            file=sys.stderr,
        )
    return len(empty)


def check_answered(captions: int, empty: int) -> None:
    """Raises InputError if all captions of a data set are empty.

    Args:
        captions: number of captions.
        empty: number of empty captions.
    """
    if captions and captions == empty:
        raise InputError(
            f"caption: {empty} of {empty} captions are empty; check the model (models.<dataset>.captioner), its number "
            "type (caption.<dataset>.dtype) and the prompt (caption.<dataset>.prompt), or the published file"
        )
