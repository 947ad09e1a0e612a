"""CIRCO: queries with several targets each, ranked against all images of COCO 2017 unlabeled; it has no training split.

Source: https://github.com/miccunifi/CIRCO.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from spn4cir.datasets.base import annotated_in
from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.protocol import AnnotatedSplit, EvaluationProtocol, Scores, SubmissionFile
from spn4cir.datasets.records import (
    Missing,
    check_query_ids,
    checked_list,
    fill_template,
    findable,
    integer_field,
    list_field,
    on_disk,
    present,
    present_gallery,
    text_field,
)
from spn4cir.errors import InputError
from spn4cir.images.spelling import spelled
from spn4cir.json_files import read_json
from spn4cir.types import EvaluationSplit, Triplet

_KS = (5, 10, 25, 50)


@dataclass(frozen=True)
class Circo:
    """Adapter of a CIRCO folder; an image's name is its COCO id.

    Attributes:
        root: the folder of the data set.
        missing: whether a query with an absent image is an error or is left out.
        query_text: the text of a query, with the fields `{relative_caption}` and `{shared_concept}`.
    """

    root: Path
    missing: Missing
    query_text: str = "{relative_caption}"
    published: ClassVar[str] = "circo"
    submission: ClassVar[tuple[SubmissionFile, ...]] = (
        SubmissionFile(
            metric="map",
            pattern="submission_test_{name}.json",
            count=50,
            query="query",
            split="test",
            integers=True,
            own_reference=True,
        ),
    )
    official: ClassVar[Mapping[str, int]] = {
        "val triplets": 220,
        "val images": 123_403,
        "test triplets": 800,
        "test images": 123_403,
    }

    @property
    def protocol(self) -> EvaluationProtocol:
        """Mean average precision over all targets of a query, and recalls of its first target."""
        return EvaluationProtocol(
            gallery="all images that image_info_unlabeled2017.json lists",
            captions=self.query_text,
            recall_ks=_KS,
            map_ks=_KS,
        )

    @property
    def _listing(self) -> Path:
        return self.root / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"

    def _annotations(self, split: str) -> Path:
        return self.root / "annotations" / f"{split}.json"

    @cached_property
    def _paths(self) -> dict[str, Path]:
        content = read_json(self._listing)
        images = content.get("images") if isinstance(content, dict) else None
        kind = "images, each with id and file_name, under the key images"
        paths: dict[str, Path] = {}
        for image in checked_list(images, _is_image, kind, self._listing):
            place = spelled(self.image_folders[0], image["file_name"])
            if paths.setdefault(str(image["id"]), place) != place:
                raise InputError(
                    f"{self._listing}: image id {image['id']} has two files, the second is "
                    f"{image['file_name']}; give each image an id of its own"
                )
        return dict(sorted(paths.items()))  # a gallery's order, so that its features need no sorting

    def _read(self, split: str) -> tuple[Triplet, ...]:
        path = self._annotations(split)
        triplets = tuple(
            self._triplet(record, path, position, split == "val") for position, record in enumerate(read_records(path))
        )
        check_query_ids(triplets, "query id", path)
        return triplets

    def _triplet(self, record: dict[str, Any], path: Path, position: int, with_target: bool) -> Triplet:
        texts = {name: text_field(record, name, path, position) for name in ("relative_caption", "shared_concept")}
        reference = str(integer_field(record, "reference_img_id", path, position))
        number = integer_field(record, "id", path, position)
        text = (fill_template(self.query_text, texts),)
        if not with_target:
            return Triplet(reference, text, query_id=number)
        first = integer_field(record, "target_img_id", path, position)
        targets = list_field(record, "gt_img_ids", int, path, position)
        if not targets or targets[0] != first or len(set(targets)) < len(targets):
            raise InputError(
                f"{path}: triplet {position}: gt_img_ids is {targets}, expected different ids, {first} first"
            )
        others = tuple(str(target) for target in targets[1:])
        aspects = tuple(list_field(record, "semantic_aspects", str, path, position))
        return Triplet(reference, text, str(first), query_id=number, other_targets=others, aspects=aspects)

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns the val split."""
        return (self._evaluation_split("val"),)

    def test_split(self) -> EvaluationSplit:
        """Returns the test split, which a server scores."""
        return self._evaluation_split("test")

    def _evaluation_split(self, split: str) -> EvaluationSplit:
        path, paths = self._annotations(split), self._paths
        annotated = self._read(split)
        gallery, absent = present_gallery(list(paths), list(paths.values()), self.missing, self._listing)
        queries = findable(annotated, self.missing, path)
        triplets = present(queries, on_disk(paths), self.missing, str(path))
        return EvaluationSplit(split, triplets, gallery, {}, len(annotated) - len(triplets), absent)

    def test_queries(self) -> tuple[tuple[Triplet, ...], tuple[str, ...]]:
        """Returns the test queries and image names, from the annotation files alone."""
        return self._read("test"), tuple(self._paths)

    def other_queries(self) -> Mapping[str, tuple[Triplet, ...]]:
        """Returns the val queries, which share the gallery of test, if their file is in the folder."""
        return {"val": self._read("val")} if self._annotations("val").is_file() else {}

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns mAP@k over all targets, and R@k of the target that the text was written for."""
        (flat,) = scores.values()
        return dict(flat)

    @property
    def _files(self) -> dict[str, Path]:
        return {split: self._annotations(split) for split in ("val", "test")}

    @property
    def absent_splits(self) -> tuple[str, ...]:
        """The splits among val and test that have no annotation file."""
        return tuple(split for split, path in self._files.items() if not path.is_file())

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns the splits among val and test that have an annotation file."""
        return tuple(AnnotatedSplit(split, self._read(split), self._paths) for split in annotated_in(self._files))

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folder of COCO's unlabeled images."""
        return (self.root / "COCO2017_unlabeled" / "unlabeled2017",)


def _is_image(image: Any) -> bool:
    if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
        return False
    return type(image.get("id")) is int and bool(image["file_name"].strip())
