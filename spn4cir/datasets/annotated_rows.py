"""Base of layouts whose annotations are rows: one reference image, one text, one target image each."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from spn4cir.datasets.base import AnnotatedQueries, unique_gallery
from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.misnamed import misnamed
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.protocol import AnnotatedSplit, EvaluationProtocol, Scores
from spn4cir.datasets.published_names import PublishedNames
from spn4cir.datasets.records import (
    SKIP,
    Missing,
    captions_field,
    field,
    findable,
    present,
    present_generated,
    present_images,
    report_empty_texts,
    usable_gallery,
)
from spn4cir.datasets.rows import Row
from spn4cir.datasets.rows_by_split import RowsBySplit, divide
from spn4cir.datasets.splits import SPLITS, Assigned
from spn4cir.errors import InputError
from spn4cir.images.spelling import Spellings
from spn4cir.progress import say_once
from spn4cir.types import CaptionedImage, EvaluationSplit, Gallery, Triplet
from spn4cir.utf8 import is_utf8


@dataclass(frozen=True)
class AnnotatedRows(AnnotatedQueries):
    """Adapter of annotation rows and the images that they name.

    Attributes:
        root: the folder of the data set.
        missing: whether a row with an absent image is an error or is left out.
        held_out: share of the references that are drawn for validation, with all their rows, if the annotations have
            no validation rows.
        layout: name of the layout; the names of caption files begin with it.
    """

    root: Path
    missing: Missing
    held_out: float = 0.1
    layout: ClassVar[str]
    published: ClassVar[str] = "fiq"
    official: ClassVar[Mapping[str, int]] = {}
    absent_splits: ClassVar[tuple[str, ...]] = ()
    _captions_rule: ClassVar[str]
    _absent: ClassVar[str]
    _to_state: ClassVar[str]

    @property
    def _every(self) -> Gallery:
        """All images on disk."""
        raise NotImplementedError

    @cached_property
    def _namable(self) -> Gallery:
        """All images on disk whose names are UTF-8. Raises InputError for others unless `missing` is skip."""
        found = misnamed(self._every.names, self.missing, self.root)
        return self._every.restrict(frozenset(self._every.names) - found) if found else self._every

    @cached_property
    def _usable(self) -> Gallery:
        """All images on disk whose names are UTF-8; under `missing=skip`, those of them that can be decoded."""
        return usable_gallery(self._namable, self.missing, self.root)

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self._every.names, self.root)

    def _spelled(self, name: str) -> str:
        """Returns a name in the spelling of the image's file; the name of an absent image is unchanged."""
        return name if name in self._every.index else self._spellings.find(name) or name

    def _read(self) -> Sequence[Row]:
        """Reads the rows, in file order."""
        raise NotImplementedError

    def _place(self) -> Path:
        """Returns the file or folder of the rows, for messages."""
        raise NotImplementedError

    def image_path(self, name: str) -> Path:
        """Returns the path of an image; the file may be absent."""
        raise NotImplementedError

    def _candidates(self, triplets: Sequence[Triplet]) -> Gallery:  # noqa: ARG002 - for other layouts
        """Returns the gallery of some queries, including images that cannot be decoded."""
        return self._every

    @cached_property
    def protocol(self) -> EvaluationProtocol:
        """Recalls over the gallery and, if the queries have groups, within these.

        The best epoch is selected by CIRR's score if the queries have groups, else by FashionIQ's.
        """
        return EvaluationProtocol(
            gallery=self._gallery_rule,
            captions=self._captions_rule,
            recall_ks=(1, 5, 10, 50),
            subset_ks=(1, 2, 3) if self._rows.has_groups else (),
            selection="mean_recall5_subset1" if self._rows.has_groups else "average_recall",
            queries=self._query_source,
            assigned=self._assigned,
        )

    @property
    def _gallery_rule(self) -> str:
        """The rule that says which images a gallery contains."""
        raise NotImplementedError

    @property
    def _query_source(self) -> str:
        """The origin of the queries: annotated or generated."""
        return "annotated"

    @property
    def _assigned(self) -> Sequence[Assigned]:
        """The rows that state no split, with the rule that assigned one."""
        return self._rows.assigned

    @property
    def _all_scored(self) -> bool:
        """Whether rows that state no split are validation queries."""
        return False

    @cached_property
    def _rows(self) -> RowsBySplit:
        rows = divide(self._read(), self.held_out, self._all_scored)
        for each in rows.assigned:
            say_once(f"{self._place()}: {each}; {self._to_state}")
        return rows

    @cached_property
    def _training_triplets(self) -> tuple[Triplet, ...]:
        return present(self._rows.triplets("train"), self._namable.path, self.missing, str(self._place()))

    def training_triplets(self) -> tuple[Triplet, ...]:
        """Returns the triplets of the train rows."""
        return self._training_triplets

    @cached_property
    def _learnable(self) -> Gallery:
        """All images except those that only val and test rows name."""
        queries = {name for _, row in self._rows.of("val", "test") for name in (row.reference, row.target, *row.group)}
        training = {name for _, row in self._rows.of("train") for name in (row.reference, row.target)}
        return self._usable.restrict(frozenset(self._usable.names) - (queries - training))

    def training_gallery(self) -> Gallery:
        """Returns the images that train rows name; without train rows, all images that no query names."""
        triplets = self.training_triplets()
        return unique_gallery(triplets, self.image_path) if triplets else self._learnable

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """Returns the images to caption; the prompt's noun is the category of their row, else `image`.

        Args:
            scope: `split` for all images except those that only queries name, `triplets` for the training gallery.
        """
        gallery = self._learnable if scope == "split" else self.training_gallery()
        nouns: dict[str, str] = {}
        for _, row in self._rows.of(*SPLITS):
            nouns |= dict.fromkeys({row.reference, row.target} - nouns.keys(), row.category)
        images = [
            CaptionedImage(name, path, nouns.get(name) or "image")
            for name, path in zip(gallery.names, gallery.paths, strict=True)
        ]
        return present_images(images, self.missing, self.root)

    @property
    def names(self) -> PublishedNames:
        """Names in the published form: captions are in `mm_data/{layout}`, triplets are in the root."""
        return PublishedNames(self.root, f"mm_data/{self.layout}", f"{self.layout}_it_llava_{{words}}.json")

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """Returns FashionIQ's record under the names of the columns: reference, target.

        `caption1` describes the reference, `caption2` the target.
        """
        return {
            "reference": triplet.reference_name,
            "target": triplet.target_name,
            "captions": list(triplet.captions),
            "caption1": reference_caption,
            "caption2": target_caption,
        }

    def read_generated(self, path: Path) -> Sequence[Triplet]:
        """Reads the generated triplets of a file."""
        triplets = PackedTriplets(
            Triplet(
                reference_name=self._spelled(field(record, "reference", str, path, position)),
                captions=captions_field(record, "captions", path, position),
                target_name=self._spelled(field(record, "target", str, path, position)),
                query_id=position,
                generated=True,
            )
            for position, record in enumerate(read_records(path))
        )
        report_empty_texts(triplets, path)
        return present_generated(triplets, self._namable.path, self.missing, str(path))

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns the val split, and the test split if rows have it.

        The alternative gallery `named_by_queries` contains the images that the queries name. Test scores are reported
        beside those of val and do not select the epoch.
        """
        names = self._usable.index if self.missing == "error" else None
        self._rows.check_groups(str(self._place()), names)
        return tuple(
            self._split(split, self._rows.triplets(split)) for split in ("val", "test") if split in self._rows.splits
        )

    def _split(self, name: str, annotated: list[Triplet]) -> EvaluationSplit:
        queries = findable(annotated, self.missing, self._place())
        there = present(queries, self._namable.path, self.missing, str(self._place()))
        candidates = self._candidates(there).restrict(frozenset(self._usable.names))
        triplets = self._answerable(there, candidates)
        used = frozenset(name for triplet in triplets for name in (*names_of(triplet), *triplet.subset_names))
        named = {name for triplet in annotated for name in (*names_of(triplet), *triplet.subset_names)}
        return EvaluationSplit(
            name=name,
            triplets=triplets,
            gallery=candidates,
            outside=self._usable.restrict(frozenset(t.reference_name for t in triplets) - candidates.index.keys()),
            alternatives={"named_by_queries": candidates.restrict(used)},
            left_out=len(annotated) - len(triplets),
            missing=len(named - self._usable.index.keys()),
        )

    def _answerable(self, queries: Sequence[Triplet], candidates: Gallery) -> tuple[Triplet, ...]:
        """Returns the queries that have all targets in the gallery.

        Raises InputError for the first other query, unless `missing` is skip.
        """
        kept = tuple(query for query in queries if candidates.index.keys() >= set(query.target_names))
        if len(kept) < len(queries):
            if self.missing == "error":
                lacking = next(name for query in queries for name in query.target_names if name not in candidates.index)
                raise InputError(
                    f"{self._place()}: target '{lacking}' is not in the gallery; add it to the table of images, or "
                    f"leave such queries out by {SKIP}"
                )
            count = f"{len(queries) - len(kept)} of {len(queries)}"
            print(f"{self._place()}: left out {count} queries whose target is not in the gallery", file=sys.stderr)
        return kept

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns the recalls of val with the mean that selects the epoch; the keys of test begin with `test_`."""
        flat: Scores = {}
        for split, values in scores.items():
            other = "recall_subset_at1" if self._rows.has_groups else "recall_at50"
            first = "recall_at5" if self._rows.has_groups else "recall_at10"
            whole = {**values, self.protocol.selection: (values[first] + values[other]) / 2}
            flat |= {key if split == "val" else f"{split}_{key}": value for key, value in whole.items()}
        return flat

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns the rows of each split with the images of its gallery."""
        splits = []
        for split in self._rows.splits:
            triplets = tuple(self._rows.triplets(split))
            listed = [name for triplet in triplets for name in (*sorted(names_of(triplet)), *triplet.subset_names)]
            paths = {name: self.image_path(name) for name in listed}
            named = {name: path for name, path in paths.items() if name in self._every.index or not path.is_file()}
            candidates = self._candidates(triplets)
            everything = dict(zip(candidates.names, candidates.paths, strict=True))
            refused = {name: path for name, path in everything.items() if not is_utf8(name)}
            needed = (refused if split == "train" else everything) | named
            splits.append(AnnotatedSplit(split, triplets, needed, frozenset(named), absent=self._absent))
        return tuple(splits)

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The root folder alone."""
        return (self.root,)


def names_of(triplet: Triplet) -> set[str]:
    """Returns the names of a triplet's reference and targets."""
    return {triplet.reference_name, *triplet.target_names}
