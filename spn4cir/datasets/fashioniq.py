"""FashionIQ: three categories, two captions a triplet.

Source: https://github.com/XiaoxiaoGuo/fashion-iq.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar, Literal

from spn4cir.datasets.base import AnnotatedQueries, unique_gallery
from spn4cir.datasets.images_by_name import ImagesByName
from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.parts import are_enough, choose_parts, naming_parts, require_images
from spn4cir.datasets.protocol import (
    AnnotatedSplit,
    EvaluationProtocol,
    Scores,
)
from spn4cir.datasets.published_names import PublishedNames
from spn4cir.datasets.records import (
    Missing,
    captions_field,
    checked_list,
    field,
    findable,
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

CATEGORIES = ("dress", "shirt", "toptee")
_OFFICIAL = {
    "train triplets": 18_000,
    "train images": 46_609,
    "train images in triplets": 25_136,
    "val triplets": 6_016,
    "val dress images": 3_817,
    "val shirt images": 6_346,
    "val toptee images": 5_373,
}


@dataclass(frozen=True)
class FashionIQ(AnnotatedQueries):
    """Adapter of a FashionIQ folder; images may have any ending of `spn4cir.images.endings`.

    Attributes:
        root: the folder of the data set.
        missing: whether a triplet with an absent image is an error or is left out.
        categories: the categories to read and score.
    """

    root: Path
    missing: Missing
    categories: tuple[str, ...] = CATEGORIES
    published: ClassVar[str] = "fiq"

    @property
    def protocol(self) -> EvaluationProtocol:
        """Recalls over each category's gallery; the average selects the epoch."""
        return EvaluationProtocol(
            gallery="all images of the split files",
            captions="first and second caption, joined by ' and '",
            recall_ks=(10, 50),
            selection="average_recall",
            parts={} if self._is_whole else {"categories": self._categories},
        )

    @property
    def official(self) -> Mapping[str, int]:
        """Published totals of all categories; if some are left out, only the gallery sizes of the others."""
        everything = self._is_whole
        return {what: total for what, total in _OFFICIAL.items() if everything or what.split()[1] in self._categories}

    @property
    def _is_whole(self) -> bool:
        """Whether all three categories are read."""
        return self._categories == CATEGORIES

    @cached_property
    def _categories(self) -> tuple[str, ...]:
        return choose_parts(self.categories, CATEGORIES, "categories", self.root)

    @staticmethod
    def find_parts(root: Path) -> dict[str, tuple[str, ...]]:
        """Returns the setting `categories` for a folder that contains captions of only some categories, else empty."""
        found = _annotated_in(root)
        return {} if found in ((), CATEGORIES) else {"categories": found}

    @cached_property
    def _images(self) -> ImagesByName:
        folder = self.root / "images"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give a folder with captions, image_splits and images")
        return ImagesByName(folder)

    def _find(self, name: str) -> Path | None:
        return self._images.find(name)

    def image_path(self, name: str) -> Path:
        """Returns the path of an image, with the ending that it has on disk; an absent image gets `.png`."""
        return self._find(name) or self.root / "images" / f"{name}.png"

    def _split_names(self, category: str, split: str) -> list[str]:
        path = self.root / "image_splits" / f"split.{category}.{split}.json"
        names = read_json(path)
        checked_list(names, lambda name: isinstance(name, str) and bool(name.strip()), "image names", path)
        return list(dict.fromkeys(names))

    def _captions_path(self, category: str, split: str) -> Path:
        return self.root / "captions" / f"cap.{category}.{split}.json"

    def _read(self, path: Path, category: str, generated: bool = False, with_target: bool = True) -> Iterator[Triplet]:
        return (
            Triplet(
                reference_name=field(record, "candidate", str, path, position),
                captions=captions_field(record, "captions", path, position),
                target_name=field(record, "target", str, path, position) if with_target else None,
                query_id=position,
                category=category,
                generated=generated,
            )
            for position, record in enumerate(read_records(path))
        )

    def _annotated(self, category: str, split: str) -> list[Triplet]:
        """Reads the triplets of a split.

        Raises InputError for an absent file; the message names the setting `categories` if other categories have
        all their files.
        """
        path = self._captions_path(category, split)
        there = [other for other in self._complete if self._captions_path(other, split).is_file()]
        if there and not path.is_file():
            raise InputError(f"{path}: no such file; {naming_parts('categories', there)}")
        return list(self._read(path, category, with_target=split != "test"))

    @cached_property
    def _annotated_splits(self) -> Mapping[str, set[str]]:
        """The splits among train and val that have captions, by category."""
        return {
            category: {split for split in ("train", "val") if self._captions_path(category, split).is_file()}
            for category in CATEGORIES
        }

    @cached_property
    def _complete(self) -> tuple[str, ...]:
        """The chosen categories that lack no caption file: they have every split that any category has."""
        found = self._annotated_splits
        needed = set().union(*found.values())
        return tuple(category for category in self._categories if needed and found[category] == needed)

    def _require_images(self, category: str, split: str, place: Path) -> None:
        """Raises InputError, which names the setting, if a category lacks its images and others have theirs."""

        def has_images(other: str) -> bool:
            names = [triplet.reference_name for triplet in self._annotated(other, split)]
            return are_enough([self._find(name) is not None for name in names], self.missing)

        require_images(category, self._complete, has_images, "categories", place)

    @cached_property
    def _training_triplets(self) -> tuple[Triplet, ...]:
        kept: list[Triplet] = []
        for category in self._categories:
            path = self._captions_path(category, "train")
            self._require_images(category, "train", path)
            kept.extend(present(self._annotated(category, "train"), self._find, self.missing, str(path)))
        return tuple(kept)

    def training_triplets(self) -> tuple[Triplet, ...]:
        """Returns the annotated training triplets, in the order dress, shirt, toptee."""
        return self._training_triplets

    def training_gallery(self) -> Gallery:
        """Returns the images that annotated training triplets name."""
        return unique_gallery(self.training_triplets(), self.image_path)

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """Returns the images to caption; the prompt's noun is the image's category.

        With scope `split`, each entry of the split files is captioned: a name in two categories is captioned under
        both nouns, as in the published files. With scope `triplets`, each name is captioned once, under the category
        of the first triplet that names it.
        """
        if scope == "split":
            nouns = [(name, category) for category in self._categories for name in self._split_names(category, "train")]
        else:
            nouns = list(self._triplet_nouns().items())
        images = [CaptionedImage(name, self.image_path(name), noun) for name, noun in nouns]
        return present_images(images, self.missing, self.root / "image_splits")

    def _triplet_nouns(self) -> dict[str, str]:
        nouns: dict[str, str] = {}
        for triplet in self.training_triplets():
            for name in (triplet.reference_name, triplet.target_name):
                nouns.setdefault(str(name), triplet.category)
        return nouns

    @property
    def names(self) -> PublishedNames:
        """Names of published files: captions are in `mm_data/fiq`, triplets are beside the annotated captions."""
        return PublishedNames(self.root, "mm_data/fiq", "fashioniq_it_llava_{words}.json", triplets_folder="captions")

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """Returns a generated triplet's record: caption1 describes the reference (`candidate`), caption2 the target."""
        return {
            "target": triplet.target_name,
            "candidate": triplet.reference_name,
            "captions": list(triplet.captions),
            "caption1": reference_caption,
            "caption2": target_caption,
        }

    def read_generated(self, path: Path) -> Sequence[Triplet]:
        """Reads the generated triplets of a file."""
        triplets = PackedTriplets(self._read(path, "", generated=True))
        report_empty_texts(triplets, path)
        return present_generated(triplets, self._find, self.missing, str(path))

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns one split per category; its alternative gallery `val_triplets` has only images that triplets name."""
        return tuple(self._evaluation_split(category) for category in self._categories)

    def _evaluation_split(self, category: str) -> EvaluationSplit:
        annotated = self._annotated(category, "val")
        names = self._split_names(category, "val")
        place = self.root / "image_splits" / f"split.{category}.val.json"
        self._require_images(category, "val", place)
        paths = {name: self.image_path(name) for name in names}
        gallery, absent = present_gallery(names, list(paths.values()), self.missing, place)
        path = self._captions_path(category, "val")
        triplets = present(findable(annotated, self.missing, path), on_disk(paths), self.missing, str(path))
        used = frozenset(name for t in triplets for name in (t.reference_name, t.target_name) if name is not None)
        return EvaluationSplit(
            name=category,
            triplets=triplets,
            gallery=gallery,
            alternatives={"val_triplets": gallery.restrict(used)},
            left_out=len(annotated) - len(triplets),
            missing=absent,
        )

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns R@10 and R@50 of each category, their averages, and the mean of the two averages."""
        flat = {f"{category}_{key}": value for category, values in scores.items() for key, value in values.items()}
        averages = {
            f"average_recall_at{k}": mean(values[f"recall_at{k}"] for values in scores.values()) for k in (10, 50)
        }
        return {**flat, **averages, "average_recall": mean(averages.values())}

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns one entry per split and category.

        Train and val are left out only if no category has captions of them; test is left out for each category
        without test captions. A training triplet needs no entry in the split file. A query does, because its gallery
        contains no other images.
        """
        absent = self.absent_splits if self._complete else ()
        return tuple(
            self._annotated_split(split, category)
            for split in ("train", "val", "test")
            for category in self._categories
            if split not in absent and (split != "test" or self._captions_path(category, split).is_file())
        )

    @property
    def absent_splits(self) -> tuple[str, ...]:
        """The splits among train and val for which no category has captions."""
        found = set().union(*self._annotated_splits.values())
        return tuple(split for split in ("train", "val") if split not in found)

    def _annotated_split(self, split: str, category: str) -> AnnotatedSplit:
        triplets = tuple(self._annotated(category, split))
        named = unique_gallery(triplets, self.image_path).names if split == "train" else ()
        names = dict.fromkeys((*self._split_names(category, split), *named))
        return AnnotatedSplit(
            split, triplets, {name: self.image_path(name) for name in names}, category=category, setting="categories"
        )

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folder `images`."""
        return (self.root / "images",)


def _annotated_in(root: Path) -> tuple[str, ...]:
    """Returns the categories with a caption file of any split in the folder."""
    return tuple(category for category in CATEGORIES if any((root / "captions").glob(f"cap.{category}.*.json")))
