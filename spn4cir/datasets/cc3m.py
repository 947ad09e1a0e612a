"""CC3M: a pool of further images without annotations, from which triplets are generated.

Source: https://github.com/google-research-datasets/conceptual-captions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.misnamed import misnamed
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.records import (
    Missing,
    captions_field,
    field,
    present_generated,
    present_images,
    report_empty_texts,
)
from spn4cir.datasets.shards import Listed, find_parts, image_id
from spn4cir.errors import InputError
from spn4cir.images.reading import is_there
from spn4cir.images.spelling import Spellings
from spn4cir.types import CaptionedImage, Triplet

# Names of the published triplets by the published name of the data set that they serve.
_GENERATED = {"fiq": "cap.cc.train.json", "cirr": "cap.rc2.train.cc.json"}


@dataclass(frozen=True)
class Cc3m:
    """A folder of CC3M, in any of the forms of `spn4cir.datasets.shards`. The folder is never written to.

    Attributes:
        root: the folder of CC3M.
        parts: numbers of the part files, folders or tars to read; None reads all.
        missing: whether absent images, those whose names are not UTF-8, and lines of a part file that name no image are
            an error or are left out.
    """

    root: Path
    parts: tuple[int, ...] | None
    missing: Missing

    @cached_property
    def _listed(self) -> Mapping[str, Listed]:
        """The images of the chosen parts by id, in part order."""
        found = find_parts(self.root, self.missing)
        numbers = list(found.places) if self.parts is None else list(dict.fromkeys(self.parts))
        if absent := [number for number in numbers if number not in found.places]:
            raise InputError(
                f"{self.root}: has no part {', '.join(map(str, absent))}; "
                f"it has {', '.join(map(str, found.places))}: choose from these, or add the part"
            )
        listed: dict[str, Listed] = {}
        for image in found.read({number: found.places[number] for number in numbers}):
            if image.name in listed:
                raise InputError(
                    f"{self.root}: image id '{image.name}' is used twice, at {listed[image.name].place} and at "
                    f"{image.place}; remove or rename one"
                )
            listed[image.name] = image
        wrong = misnamed([image.file for image in listed.values()], self.missing, self.root)
        return {name: image for name, image in listed.items() if image.file not in wrong} if wrong else listed

    def images(self) -> tuple[CaptionedImage, ...]:
        """Returns the images of the chosen parts, part after part; the prompt's noun is `image`.

        Raises:
            InputError: `find_parts` raises, a part is absent or cannot be read, two images have one id or, unless
                `missing` is skip, images are absent or have names that are not UTF-8.
        """
        images = [CaptionedImage(image.name, image.path, "image") for image in self._listed.values()]
        return present_images(images, self.missing, self.root)

    def image_path(self, name: str) -> Path:
        """Returns the path of an image by its id or file name.

        No file exists at the path if no chosen part lists the name.
        """
        found = self._listed.get(self._spelled(image_id(name)))
        return found.path if found else self.root / name

    def part_of(self, name: str) -> int:
        """Returns the number of the part that lists the image. Raises KeyError for an id that no chosen part lists."""
        return self._listed[name].part

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self._listed, self.root)

    def _spelled(self, name: str) -> str:
        """Returns an id in the spelling of the parts; an id that they do not list is unchanged."""
        return name if name in self._listed else self._spellings.find(name) or name

    def captions_name(self, part: int, words: int) -> str:
        """Returns the published file name of a part's captions: `cc_it_{part}_llava_{words}.json`."""
        return f"cc_it_{part}_llava_{words}.json"

    def published_captions(self, part: int, words: int) -> Path:
        """Returns the path of a part's published captions: under the root, in `mm_data/zs`."""
        return self.root / "mm_data" / "zs" / self.captions_name(part, words)

    def generated_name(self, published: str) -> str:
        """Returns the published file name of CC3M's triplets for the data set that is published as `published`.

        Raises InputError for a data set without such a file.
        """
        if published not in _GENERATED:
            raise InputError(f"no triplets of CC3M are named for '{published}'; choose one of: {', '.join(_GENERATED)}")
        return _GENERATED[published]

    def generated_record(self, triplet: Triplet) -> dict[str, Any]:
        """Returns a generated triplet's record for the original code: paths and ids of both images."""
        return {
            "reference": str(self.image_path(triplet.reference_name)),
            "target": str(self.image_path(str(triplet.target_name))),
            "reference_name": triplet.reference_name,
            "target_name": triplet.target_name,
            "captions": list(triplet.captions),
        }

    def read_generated(self, path: Path) -> Sequence[Triplet]:
        """Reads the generated triplets of a file; its paths may be those of another machine.

        Raises:
            InputError: a record is malformed or, unless `missing` is skip, an image is absent or in no chosen part.
        """
        triplets = PackedTriplets(
            Triplet(
                reference_name=self._name(record, "reference", path, position),
                captions=captions_field(record, "captions", path, position),
                target_name=self._name(record, "target", path, position),
                query_id=position,
                generated=True,
            )
            for position, record in enumerate(read_records(path))
        )
        report_empty_texts(triplets, path)
        return present_generated(triplets, self._find, self.missing, str(path))

    def _name(self, record: dict[str, Any], role: str, path: Path, position: int) -> str:
        """Returns the image id of a record; if no part lists that id, the id of the file in the record's path."""
        name = self._spelled(image_id(field(record, f"{role}_name", str, path, position)))
        file = field(record, role, str, path, position)
        name = name if name in self._listed else self._spelled(image_id(file))
        found = self._listed.get(name)
        return found.name if found else name  # one text for all records that name the image

    def _find(self, name: str) -> Path | None:
        found = self._listed.get(name)
        return found.path if found and is_there(found.path) else None
