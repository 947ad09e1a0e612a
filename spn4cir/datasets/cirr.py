"""CIRR: one caption a triplet, one gallery, subsets of six similar images.

Source: https://github.com/Cuberick-Orion/CIRR.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from spn4cir.datasets.base import AnnotatedQueries, annotated_in, unique_gallery
from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.listed_paths import ListedPaths
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.protocol import (
    AnnotatedSplit,
    EvaluationProtocol,
    Scores,
    SubmissionFile,
)
from spn4cir.datasets.published_names import PublishedNames
from spn4cir.datasets.records import (
    SKIP,
    Missing,
    captions_field,
    check_query_ids,
    field,
    findable,
    integer_field,
    on_disk,
    present,
    present_gallery,
    present_generated,
    present_images,
    report_empty_texts,
)
from spn4cir.errors import InputError
from spn4cir.json_files import read_json
from spn4cir.types import CaptionedImage, EvaluationSplit, Gallery, Triplet


def _file(metric: str, count: int, of_subset: bool) -> SubmissionFile:
    return SubmissionFile(
        metric=metric,
        pattern=f"{metric}_submission_{{name}}.json",
        count=count,
        query="pair",
        split="test1",
        header={"version": "rc2", "metric": metric},
        of_subset=of_subset,
        max_bytes=5_000_000,
    )


@dataclass(frozen=True)
class Cirr(AnnotatedQueries):
    """Adapter of a CIRR folder."""

    root: Path
    missing: Missing
    published: ClassVar[str] = "cirr"
    protocol: ClassVar[EvaluationProtocol] = EvaluationProtocol(
        gallery="all images of the split files",
        captions="the one caption as annotated",
        recall_ks=(1, 5, 10, 50),
        subset_ks=(1, 2, 3),
        selection="mean_recall5_subset1",
    )
    submission: ClassVar[tuple[SubmissionFile, ...]] = (
        _file("recall", 50, of_subset=False),
        _file("recall_subset", 3, of_subset=True),
    )
    official: ClassVar[Mapping[str, int]] = {
        "train triplets": 28_225,
        "train images": 16_939,
        "val triplets": 4_181,
        "val images": 2_297,
        "test1 triplets": 4_148,
        "test1 images": 2_315,
    }

    def _split_path(self, split: str) -> Path:
        return self.root / "cirr" / "image_splits" / f"split.rc2.{split}.json"

    def _captions_path(self, split: str) -> Path:
        return self.root / "cirr" / "captions" / f"cap.rc2.{split}.json"

    def _paths(self, split: str) -> Mapping[str, Path]:
        path = self._split_path(split)
        places = read_json(path)
        if not isinstance(places, dict):
            raise InputError(f"{path}: expected a JSON object of image name -> relative path; check the file")
        if wrong := [name for name, place in places.items() if not isinstance(place, str) or not place.strip()]:
            raise InputError(
                f"{path}: the path of image '{wrong[0]}' is {places[wrong[0]]!r}, expected a JSON object of image name "
                "-> relative path; correct it"
            )
        return ListedPaths(self.root, places)

    @cached_property
    def _training_paths(self) -> Mapping[str, Path]:
        return self._paths("train")

    def image_path(self, name: str) -> Path:
        """Returns the path of a training image, from the split file."""
        return self._training_paths.get(name, self.root / "train" / f"{name}.png")

    def _read(self, path: Path, with_target: bool, generated: bool = False) -> Iterator[Triplet]:
        return (
            Triplet(
                reference_name=field(record, "reference", str, path, position),
                captions=captions_field(record, "caption", path, position),
                target_name=field(record, "target_hard", str, path, position) if with_target else None,
                query_id=integer_field(record, "pairid", path, position),
                subset_names=() if generated else self._members(record, path, position),
                generated=generated,
            )
            for position, record in enumerate(read_records(path))
        )

    @staticmethod
    def _members(record: dict[str, Any], path: Path, position: int) -> tuple[str, ...]:
        group = field(record, "img_set", dict, path, position)
        members = field(group, "members", list, path, position)
        if not all(isinstance(name, str) for name in members):
            raise InputError(f"{path}: triplet {position}: members of img_set: expected a list of image names")
        return tuple(members)

    @cached_property
    def _training_triplets(self) -> tuple[Triplet, ...]:
        path = self._captions_path("train")
        return present(list(self._read(path, with_target=True)), on_disk(self._training_paths), self.missing, str(path))

    def training_triplets(self) -> tuple[Triplet, ...]:
        """Returns the annotated training triplets."""
        return self._training_triplets

    def training_gallery(self) -> Gallery:
        """Returns the images that annotated training triplets name."""
        return unique_gallery(self.training_triplets(), self.image_path)

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """Returns the images to caption; the prompt's noun is `image`."""
        names = list(self._training_paths) if scope == "split" else list(self.training_gallery().names)
        images = [CaptionedImage(name, self.image_path(name), "image") for name in names]
        return present_images(images, self.missing, self._split_path("train"))

    @property
    def names(self) -> PublishedNames:
        """Names of published files: captions are in `mm_data/cirr`, triplets are beside the annotated captions."""
        return PublishedNames(
            root=self.root,
            captions_folder="mm_data/cirr",
            captions_pattern="cirr_it_llava_{words}.json",
            triplets_folder="cirr/captions",
            triplets_pattern="cap.rc2.train.extend_{family}.json",
        )

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """Returns a generated triplet's record, with a pair id and a group that the original code needs and ignores."""
        return {
            "target_hard": triplet.target_name,
            "reference": triplet.reference_name,
            "caption": list(triplet.captions),
            "pairid": 0,
            "img_set": {"members": ["xxx"]},
            "caption1": reference_caption,
            "caption2": target_caption,
        }

    def read_generated(self, path: Path) -> Sequence[Triplet]:
        """Reads the generated triplets of a file."""
        triplets = PackedTriplets(self._read(path, with_target=True, generated=True))
        report_empty_texts(triplets, path)
        return present_generated(triplets, on_disk(self._training_paths), self.missing, str(path))

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns the val split; its gallery is all images of the split file."""
        return (self._evaluation_split("val", with_target=True),)

    def _evaluation_split(self, split: str, with_target: bool) -> EvaluationSplit:
        paths = self._paths(split)
        gallery, absent = present_gallery(list(paths), list(paths.values()), self.missing, self._split_path(split))
        path = self._captions_path(split)
        annotated = list(self._read(path, with_target))
        check_query_ids(annotated, "pair id", path)
        queries = findable(annotated, self.missing, path)
        triplets = present(queries, on_disk(paths), self.missing, str(path))
        for triplet in triplets:
            self._check_subset(triplet, gallery, path)
        return EvaluationSplit(split, triplets, gallery, {}, len(annotated) - len(triplets), absent)

    def _check_subset(self, triplet: Triplet, gallery: Gallery, path: Path) -> None:
        """Raises InputError for a group that lacks the query's reference or target, or has an absent image.

        An absent image is allowed if `missing` is skip.
        """
        members = set(triplet.subset_names)
        needed = {triplet.reference_name, triplet.target_name} - {None}
        if not needed <= members:
            raise InputError(
                f"{path}: pair {triplet.query_id}: members of img_set lack {sorted(str(n) for n in needed - members)}; "
                "add the reference and the target to the group"
            )
        absent = [name for name in triplet.subset_names if name not in gallery.index]
        if absent and self.missing == "error":
            raise InputError(
                f"{path}: pair {triplet.query_id}: member '{absent[0]}' of img_set is absent from the gallery "
                f"({len(gallery)} names); add it, or leave it out by {SKIP}"
            )

    def test_split(self) -> EvaluationSplit:
        """Returns the test1 split, which a server scores."""
        return self._evaluation_split("test1", with_target=False)

    def test_queries(self) -> tuple[tuple[Triplet, ...], tuple[str, ...]]:
        """Returns the test1 queries and image names, from the annotation files alone."""
        path = self._captions_path("test1")
        triplets = list(self._read(path, with_target=False))
        check_query_ids(triplets, "pair id", path)
        return tuple(triplets), tuple(self._paths("test1"))

    def other_queries(self) -> Mapping[str, tuple[Triplet, ...]]:
        """Returns none, because val has a gallery of its own."""
        return {}

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns R@k, R_subset@k, and the mean of R@5 and R_subset@1."""
        (flat,) = scores.values()
        return {**flat, "mean_recall5_subset1": (flat["recall_at5"] + flat["recall_subset_at1"]) / 2}

    @property
    def _caption_files(self) -> dict[str, Path]:
        return {split: self._captions_path(split) for split in ("train", "val", "test1")}

    @property
    def absent_splits(self) -> tuple[str, ...]:
        """The splits among train, val and test1 that have no caption file."""
        return tuple(split for split, path in self._caption_files.items() if not path.is_file())

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns the splits among train, val and test1 that have a caption file."""
        return tuple(
            AnnotatedSplit(split, tuple(self._read(self._captions_path(split), split != "test1")), self._paths(split))
            for split in annotated_in(self._caption_files)
        )

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folders of train, val (`dev`) and test1."""
        return tuple(self.root / name for name in ("train", "dev", "test1"))
