"""Caption files in the published form: a JSON list of `{image_id, caption, image_path}`.

A caption may be empty. The record is written all the same, because the original code looks up every image and stops
where a record is absent. No triplet is written from an empty caption.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from spn4cir.errors import InputError, some_names
from spn4cir.files import read_json, write_json

_SHOWN = 3


def read_captions(path: Path) -> dict[str, str]:
    """Captions by image name, from a published file or one of ours; other keys and the image paths are ignored.

    Of an image that the file holds twice the last caption counts, as in the original code: FashionIQ's split files
    share 1,180 names between shirt and toptee, and the published captions hold each under both. A blank caption is the
    empty string, and counts only where the file has no other one of the image.

    Raises InputError that names the record which lacks a field.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path}: holds a {type(records).__name__}, expected a list of {{image_id, caption}}")
    captions: dict[str, str] = {}
    for position, record in enumerate(records):
        name, caption = (record.get(field) if isinstance(record, dict) else None for field in ("image_id", "caption"))
        if not isinstance(name, str) or not name.strip() or not isinstance(caption, str):
            field = "caption" if isinstance(name, str) and name.strip() else "image_id"
            raise InputError(
                f"{path}: record {position} has no {field} (got {str(record)[:80]}); "
                "write the file again with caption.<dataset>.source: make, or mend the record"
            )
        captions[name] = caption.strip() or captions.get(name, "")
    return captions


def write_captions(records: Sequence[Mapping[str, str]], path: Path) -> None:
    """Writes the records of `spn4cir.positives.captions.make_captions`, whole or not at all."""
    write_json(path, list(records))


def count_empty(captions: Mapping[str, str], file: str) -> int:
    """How many images have an empty caption; they are counted and the first named on stderr.

    Args:
        captions: by image name, as `read_captions` returns them.
        file: the name of their file, for the message.
    """
    empty = [name for name, caption in captions.items() if not caption]
    if empty:
        print(
            f"{file}: {len(empty)} of {len(captions)} images have an empty caption ({some_names(empty, _SHOWN)}); "
            "no triplet is made of them",
            file=sys.stderr,
        )
    return len(empty)


def check_answered(captions: int, empty: int) -> None:
    """Raises InputError when all captions of a data set are empty.

    Args:
        captions: how many there are.
        empty: how many of them are empty.
    """
    if captions and captions == empty:
        raise InputError(
            f"caption: {empty} of {empty} captions are empty; check the model (models.<dataset>.captioner), its number "
            "type (caption.<dataset>.dtype) and the prompt (caption.<dataset>.prompt), or the published file"
        )
