"""A folder of images, sub-folders included, with or without a table of annotations.

Without annotations, the network is trained on triplets that are generated from the images' captions. Some of these are
held out with their images. They select the epoch and are scored. Their scores measure how well texts like the
captioner's are answered, not texts that people write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from spn4cir.datasets.annotated_rows import AnnotatedRows, names_of
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.protocol import AnnotatedSplit
from spn4cir.datasets.rows import Row, read_table
from spn4cir.datasets.splits import Assigned, lot
from spn4cir.images.endings import EXPECTED_ENDINGS
from spn4cir.images.folders import folder_gallery
from spn4cir.types import EvaluationSplit, Gallery, Triplet


@dataclass(frozen=True)
class Folder(AnnotatedRows):
    """Adapter of a folder of images; an image's name is its path relative to the folder.

    Attributes:
        held_out: without annotations, the share of the images that held-out queries name.
        annotations: path of a CSV or parquet file, relative to the folder; None for no annotations.
        queries: the generated triplets that are held out.
        held_out_of: number of generated triplets before some were held out.
    """

    annotations: str | None = None
    queries: tuple[Triplet, ...] = ()
    held_out_of: int = 0
    layout: ClassVar[str] = "folder"
    _captions_rule: ClassVar[str] = "the one text as written"
    _gallery_rule: ClassVar[str] = "all images of the folder"
    _absent: ClassVar[str] = f"is not an image of the folder: write its path from there, ending in {EXPECTED_ENDINGS}"
    _to_state: ClassVar[str] = "to choose other rows, write val in their column 'split'"

    @property
    def _query_source(self) -> str:
        """The origin of the queries: annotated or generated."""
        if self.annotations is not None:
            return "annotated"
        return "generated from captions, held out: their images are in no training triplet"

    @cached_property
    def _every(self) -> Gallery:
        return folder_gallery(self.root)

    def _read(self) -> Sequence[Row]:
        if self.annotations is None:
            return ()
        return [self._renamed(row) for row in read_table(self.root / self.annotations)]

    def _renamed(self, row: Row) -> Row:
        """Returns the row with the names of its images in the spelling of the folder."""
        group, others = (tuple(map(self._spelled, names)) for names in (row.group, row.others))
        reference, target = self._spelled(row.reference), self._spelled(row.target)
        return replace(row, reference=reference, target=target, group=group, others=others)

    def _place(self) -> Path:
        return self.root / (self.annotations or "")

    def image_path(self, name: str) -> Path:
        """Returns the path of an image; its name is the path relative to the folder."""
        return self.root / name

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[Sequence[Triplet], Sequence[Triplet]]:
        """Divides generated triplets into training triplets and held-out queries.

        The images of the queries make up the share `held_out`; no training triplet names one of them. With
        annotations, all generated triplets are training triplets.
        """
        if self.annotations is not None:
            return generated, ()
        names = {name for triplet in generated for name in names_of(triplet)}
        held: set[str] = set()
        lots = [lot(triplet.reference_name) for triplet in generated]
        for position in sorted(range(len(lots)), key=lots.__getitem__):
            if len(held) >= self.held_out * len(names):
                break
            held |= names_of(generated[position])
        training = PackedTriplets(triplet for triplet in generated if not names_of(triplet) & held)
        queries = PackedTriplets(triplet for triplet in generated if names_of(triplet) <= held)
        return training, queries

    def with_queries(self, generated: Sequence[Triplet], of: int) -> "Folder":
        """Returns the layout with these generated triplets as its queries; with annotations, the layout itself."""
        return self if self.annotations is not None else replace(self, queries=tuple(generated), held_out_of=of)

    @property
    def _assigned(self) -> Sequence[Assigned]:
        """The rows that state no split; without annotations, the generated queries that are held out."""
        if self.annotations is not None or not self.queries:
            return super()._assigned
        rule = (
            f"generated triplets, held out by lot: those of a share of {self.held_out:g} of the images, by a hash of "
            "the references' names"
        )
        return (Assigned("val", len(self.queries), self.held_out_of, rule),)

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns the annotated splits; without annotations, the held-out queries, ranked against all images."""
        if self.annotations is not None:
            return super().evaluation_splits()
        return (self._split("val", list(self.queries)),) if self.queries else ()

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns the rows of each split; without annotations, a train split of all images and no triplets."""
        if self.annotations is not None:
            return super().annotated_splits()
        return (AnnotatedSplit("train", (), dict(zip(self._every.names, self._every.paths, strict=True))),)
