"""Triplets that a program gives, with the images of a folder, as a layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, ClassVar

from spn4cir.datasets.annotated_rows import AnnotatedRows
from spn4cir.datasets.rows import NEEDED, OPTIONAL, Row, rows_of
from spn4cir.datasets.rows_by_split import RowsBySplit
from spn4cir.datasets.splits import states_splits
from spn4cir.errors import InputError
from spn4cir.images.folders import folder_gallery
from spn4cir.types import Gallery

StrPath = str | PathLike[str]
Example = tuple[StrPath, StrPath, str] | Mapping[str, Any]

_FORMS = "(reference, target, text), or a mapping with these keys"


@dataclass(frozen=True)
class GivenTriplets(AnnotatedRows):
    """Triplets for training and for validation; an image's name is its path relative to the folder.

    Attributes:
        given: the triplets, each with its place for messages; they state train or val.
    """

    given: tuple[tuple[str, Row], ...] = ()
    layout: ClassVar[str] = "given"
    _captions_rule: ClassVar[str] = "the text as written; of several, joined by ' and '"
    _gallery_rule: ClassVar[str] = "all images of the folder"

    @cached_property
    def _every(self) -> Gallery:
        return folder_gallery(self.root)

    @cached_property
    def _rows(self) -> RowsBySplit:
        found: dict[str, list[tuple[int, Row]]] = {"train": [], "val": [], "test": []}
        for position, (_, row) in enumerate(self.given):
            found[row.split].append((position, row))
        return RowsBySplit(found, ())

    def _place(self) -> Path:
        return Path("triplets")

    def image_path(self, name: str) -> Path:
        """Returns the path of an image; its name is the path relative to the folder."""
        return self.root / name

    def checked(self) -> "GivenTriplets":
        """Returns the triplets with the names of images in the spelling of the folder.

        Raises InputError for a name that is no image of the folder, and for a validation triplet whose target is its
        reference.
        """
        given = tuple((place, self._checked(row, place)) for place, row in self.given)
        return GivenTriplets(self.root, self.missing, given=given)

    def _checked(self, row: Row, place: str) -> Row:
        names = {role: self._spelled(getattr(row, role)) for role in ("reference", "target")}
        for role, name in names.items():
            if name not in self._every.index:
                raise InputError(
                    f"{place}: {role} '{name}' is none of the {len(self._every):,} images of {self.root}; write its "
                    "path from there"
                )
        if row.split == "val" and names["reference"] == names["target"]:
            raise InputError(
                f"{place}: the target is the reference '{names['target']}', which is removed from the ranking; "
                "correct it, or leave it out"
            )
        group = tuple(map(self._spelled, row.group))
        return Row(names["reference"], names["target"], row.texts, row.split, group)


def read_triplets(images: Path, training: Iterable[Example], validation: Iterable[Example]) -> GivenTriplets:
    """Reads triplets of the folder `images`.

    Args:
        images: the folder.
        training: triplets (reference, target, text), or mappings with these keys and optionally `split` and `group`,
            as a row of an annotation table has. Triplets that state the split val are for validation.
        validation: further triplets for validation.

    Raises:
        InputError: the folder contains no image, there are fewer than two training triplets, or a triplet has another
            form, lacks a value, names an absent image or states another split than train and val.
    """
    records = [*_records(training, "triplets", "train"), *_records(validation, "val", "val")]
    places = [place for place, _ in records]
    given = tuple(zip(places, map(_with_split, places, rows_of(records)), strict=True))
    count = sum(row.split == "train" for _, row in given)
    if count < 2:
        raise InputError(f"triplets: {count} for training, expected at least 2; give more {_FORMS}")
    return GivenTriplets(images, "error", given=given).checked()


def _records(examples: Iterable[Example], name: str, split: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(examples, (str, bytes, Mapping)) or not isinstance(examples, Iterable):
        raise InputError(f"{name} is {shortened(examples)}; give a list of triplets: {_FORMS}")
    numbered = ((f"{name}[{number}]", example) for number, example in enumerate(examples))
    return [(place, _record(example, place, split)) for place, example in numbered]


def _record(example: Any, place: str, split: str) -> dict[str, Any]:
    """Returns a triplet as the record of an annotation table, with its split."""
    if isinstance(example, (tuple, list)) and len(example) == len(NEEDED):
        example = dict(zip(NEEDED, example, strict=True))
    if not isinstance(example, Mapping) or not all(name in example for name in NEEDED):
        raise InputError(f"{place} is {shortened(example)}; give a triplet as {_FORMS}")
    stated = {name: example[name] for name in OPTIONAL if name in example and states_splits([example[name]])}
    if split == "val" and stated.get("split", split) == "train":
        raise InputError(f"{place}: states the split train; give it among the triplets, or leave the split out")
    paths = {name: _name(example[name]) for name in ("reference", "target")}
    return {"text": example["text"], "split": split} | stated | paths


def _name(value: Any) -> Any:
    return Path(fspath(value)).as_posix() if isinstance(value, PathLike) else value


def _with_split(place: str, row: Row) -> Row:
    """Returns the row with the split train or val. Raises InputError for another split."""
    if row.split == "test":
        raise InputError(
            f"{place}: states the split test, which is not used in training; leave it out, and score it with "
            "spn4cir validate"
        )
    return Row(row.reference, row.target, row.texts, "train" if row.split == "train" else "val", row.group)
