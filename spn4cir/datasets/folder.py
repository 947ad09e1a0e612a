"""A folder of pictures, sub-folders too, with a table of annotations or without any.

Without annotations the network learns from triplets generated of the pictures' captions. Some of those are held out
with their pictures, to choose the epoch by and to be scored: what they measure is how well texts like the captioner's
are answered, not texts of people.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from spn4cir.datasets.protocol import AnnotatedSplit, Scores, unique_gallery
from spn4cir.datasets.records import Missing, captions_field, field, findable, present, present_images, read_records
from spn4cir.datasets.tables import SPLITS, Row, read_table
from spn4cir.errors import InputError
from spn4cir.folders import SUFFIXES, folder_gallery
from spn4cir.types import CaptionedImage, EvaluationSplit, Gallery, Triplet

_ABSENT = f"is no picture of the folder: write its path from there, which ends in {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Folder:
    """Adapter of a folder of pictures, whose names are their paths from there.

    Attributes:
        root: the folder.
        missing: what becomes of rows whose picture is not there.
        annotations: a CSV or parquet file, its path from the folder; None: there are none.
        held_out: the share of references whose rows are for validation where the table has no column `split`; of
            generated triplets, the share of the pictures that the queries name.
        queries: generated triplets that were held out.
    """

    root: Path
    missing: Missing
    annotations: str | None = None
    held_out: float = 0.1
    queries: tuple[Triplet, ...] = ()
    published: ClassVar[str] = "fiq"
    recall_ks: ClassVar[tuple[int, ...]] = (1, 5, 10, 50)
    map_ks: ClassVar[tuple[int, ...]] = ()
    caption_join: ClassVar[str] = "the one text as written"
    gallery_rule: ClassVar[str] = "all pictures of the folder"
    official: ClassVar[Mapping[str, int]] = {}

    @property
    def query_source(self) -> str:
        """Who wrote the queries."""
        if self.annotations is not None:
            return "annotated"
        return "generated from captions, held out: their pictures are in no training triplet"

    @property
    def subset_ks(self) -> tuple[int, ...]:
        """Those of CIRR where the queries have groups."""
        return (1, 2, 3) if any(row.group for _, row in self._of("val", "test")) else ()

    @property
    def selection(self) -> str:
        """As CIRR where the queries have groups, as FashionIQ elsewhere."""
        return "mean_recall5_subset1" if self.subset_ks else "average_recall"

    @cached_property
    def _pictures(self) -> Gallery:
        return folder_gallery(self.root)

    @cached_property
    def _rows(self) -> dict[str, list[tuple[int, Row]]]:
        """The rows of each split with their positions in the file."""
        rows = () if self.annotations is None else read_table(self.root / self.annotations)
        found: dict[str, list[tuple[int, Row]]] = {split: [] for split in SPLITS}
        first = min((_draw(row.reference) for row in rows), default=0.0)  # some query there must be
        for position, row in enumerate(rows):
            drawn = _draw(row.reference)
            found[row.split or ("val" if drawn < self.held_out or drawn == first else "train")].append((position, row))
        return found

    def _of(self, *splits: str) -> list[tuple[int, Row]]:
        return [row for split in splits for row in self._rows[split]]

    def _place(self) -> Path:
        return self.root / (self.annotations or "")

    def image_path(self, name: str) -> Path:
        """The name is a path from the folder."""
        return self.root / name

    def _annotated(self, split: str) -> list[Triplet]:
        return [
            Triplet(
                row.reference, (row.text,), row.target, position, subset_names=row.group if split != "train" else ()
            )
            for position, row in self._rows[split]
        ]

    @cached_property
    def _training_triplets(self) -> tuple[Triplet, ...]:
        return present(self._annotated("train"), self._pictures.index.__contains__, self.missing, str(self._place()))

    def training_triplets(self) -> tuple[Triplet, ...]:
        """The rows of split train, or all but the share that is held out."""
        return self._training_triplets

    @cached_property
    def _learnable(self) -> Gallery:
        """All pictures but those that rows of val and test alone name."""
        queries = {name for _, row in self._of("val", "test") for name in (row.reference, row.target, *row.group)}
        training = {name for _, row in self._of("train") for name in (row.reference, row.target)}
        return self._pictures.restrict(frozenset(self._pictures.names) - (queries - training))

    def training_gallery(self) -> Gallery:
        """The pictures that training rows name; where there are no such rows, all that no query names."""
        triplets = self.training_triplets()
        return unique_gallery(triplets, self.image_path) if triplets else self._learnable

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """All pictures that no query alone names, or the training gallery; the prompt's noun is `image`."""
        gallery = self._learnable if scope == "split" else self.training_gallery()
        images = [CaptionedImage(*pair, "image") for pair in zip(gallery.names, gallery.paths, strict=True)]
        return present_images(images, self.missing, self.root)

    def captions_name(self, words: int) -> str:
        """`folder_it_llava_{words}.json`, in the form of the published ones."""
        return f"folder_it_llava_{words}.json"

    def published_captions(self, words: int) -> Path:
        """`mm_data/folder/` under the root."""
        return self.root / "mm_data" / "folder" / self.captions_name(words)

    @property
    def published_unique(self) -> Path:
        """`optimized_images.json` in the root."""
        return self.root / "optimized_images.json"

    def published_generated(self, family: str) -> Path:
        """In the root."""
        return self.root / self.generated_name(family)

    def generated_name(self, family: str) -> str:
        """`cap.extend_{family}.train.json`."""
        return f"cap.extend_{family}.train.json"

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """FashionIQ's record with the columns' names; caption1 describes the reference, caption2 the target."""
        return {
            "reference": triplet.reference_name,
            "target": triplet.target_name,
            "captions": list(triplet.captions),
            "caption1": reference_caption,
            "caption2": target_caption,
        }

    def read_generated(self, path: Path) -> tuple[Triplet, ...]:
        """The generated triplets of a file."""
        triplets = [
            Triplet(
                reference_name=field(record, "reference", str, path, position),
                captions=captions_field(record, "captions", path, position),
                target_name=field(record, "target", str, path, position),
                query_id=position,
                generated=True,
            )
            for position, record in enumerate(read_records(path))
        ]
        return present(triplets, self._pictures.index.__contains__, self.missing, str(path))

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[tuple[Triplet, ...], tuple[Triplet, ...]]:
        """Without annotations: queries whose pictures make up the share, and the triplets that name none of these."""
        if self.annotations is not None:
            return tuple(generated), ()
        names = {name for triplet in generated for name in _names(triplet)}
        held: set[str] = set()
        for triplet in sorted(generated, key=lambda each: _draw(each.reference_name)):
            if len(held) >= self.held_out * len(names):
                break
            held |= _names(triplet)
        training = tuple(triplet for triplet in generated if not _names(triplet) & held)
        queries = tuple(triplet for triplet in generated if _names(triplet) <= held)
        return training, queries

    def with_queries(self, generated: Sequence[Triplet]) -> "Folder":
        """Without annotations: scored by these."""
        return self if self.annotations is not None else replace(self, queries=tuple(generated))

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Val, and test where rows have it, over all pictures; the alternative gallery is what the queries name.

        Test rows are scored beside those of val and choose nothing.
        """
        if self.annotations is None:
            return (self._split("val", list(self.queries)),) if self.queries else ()
        if not self._rows["val"]:
            raise InputError(f"{self._place()}: no row has the split val; an epoch cannot be chosen without")
        self._check_groups()
        return tuple(self._split(split, self._annotated(split)) for split in ("val", "test") if self._rows[split])

    def _split(self, name: str, annotated: list[Triplet]) -> EvaluationSplit:
        queries = findable(annotated, self.missing, self._place())
        triplets = present(queries, self._pictures.index.__contains__, self.missing, str(self._place()))
        used = frozenset(name for triplet in triplets for name in (*_names(triplet), *triplet.subset_names))
        named = {name for triplet in annotated for name in (*_names(triplet), *triplet.subset_names)}
        return EvaluationSplit(
            name=name,
            triplets=triplets,
            gallery=self._pictures,
            alternatives={"named_by_queries": self._pictures.restrict(used)},
            left_out=len(annotated) - len(triplets),
            missing=len(named - self._pictures.index.keys()),
        )

    def _check_groups(self) -> None:
        """A group holds its query's reference and target and (unless skipping) pictures that are there; all or none."""
        for position, row in self._of("val", "test") if self.subset_ks else ():
            place = f"{self._place()}: row {position + 1}"
            if not row.group:
                raise InputError(f"{place} has no group; give every row of val and test one, or none of them")
            if lacking := {row.reference, row.target} - set(row.group):
                raise InputError(f"{place}: its group lacks {sorted(lacking)}; it holds the reference and the target")
            absent = [name for name in row.group if name not in self._pictures.index]
            if absent and self.missing == "error":
                raise InputError(f"{place}: '{absent[0]}' of its group is not there; add it, or set missing: skip")

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """The recalls of val with the mean that selects; those of test likewise, under `test_...`."""
        flat: Scores = {}
        for split, values in scores.items():
            other = "recall_subset_at1" if self.subset_ks else "recall_at50"
            first = "recall_at5" if self.subset_ks else "recall_at10"
            whole = {**values, self.selection: (values[first] + values[other]) / 2}
            flat |= {key if split == "val" else f"{split}_{key}": value for key, value in whole.items()}
        return flat

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """The rows of each split. Val is sought in the whole folder, and so is what is learnt without annotations."""
        everything = dict(zip(self._pictures.names, self._pictures.paths, strict=True))
        if self.annotations is None:
            return (AnnotatedSplit("train", (), everything),)
        splits = []
        for split in filter(self._rows.get, SPLITS):
            triplets = tuple(self._annotated(split))
            listed = [name for triplet in triplets for name in (*sorted(_names(triplet)), *triplet.subset_names)]
            paths = {name: self.image_path(name) for name in listed}
            named = {name: path for name, path in paths.items() if name in everything or not path.is_file()}
            needed = named if split == "train" else everything | named
            splits.append(AnnotatedSplit(split, triplets, needed, frozenset(named), absent=_ABSENT))
        return tuple(splits)

    @property
    def picture_folders(self) -> tuple[Path, ...]:
        """The root."""
        return (self.root,)


def _names(triplet: Triplet) -> set[str]:
    return {triplet.reference_name, str(triplet.target_name)}


def _draw(name: str) -> float:
    """A number in [0, 1) that the name decides, so that another picture in the folder changes no other's lot."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
