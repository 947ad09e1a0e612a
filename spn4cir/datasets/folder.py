"""A folder of images, sub-folders too, with a table of annotations or without any.

Without annotations the network learns from triplets generated of the images' captions. Some of those are held out
with their images, to choose the epoch by and to be scored: what they measure is how well texts like the captioner's
are answered, not texts of people.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from spn4cir.datasets.annotated_rows import AnnotatedRows, names_of
from spn4cir.datasets.protocol import AnnotatedSplit
from spn4cir.datasets.rows import Row, read_table
from spn4cir.datasets.splits import Assigned, lot
from spn4cir.images.endings import EXPECTED_ENDINGS
from spn4cir.images.folders import folder_gallery
from spn4cir.types import EvaluationSplit, Gallery, Triplet


@dataclass(frozen=True)
class Folder(AnnotatedRows):
    """Adapter of a folder of images, whose names are their paths from there.

    Attributes:
        held_out: without annotations, the share of the images that the queries held out of generated triplets name.
        annotations: a CSV or parquet file, its path from the folder; None: there are none.
        queries: generated triplets that were held out.
        held_out_of: of how many.
    """

    annotations: str | None = None
    queries: tuple[Triplet, ...] = ()
    held_out_of: int = 0
    layout: ClassVar[str] = "folder"
    _captions_rule: ClassVar[str] = "the one text as written"
    _gallery_rule: ClassVar[str] = "all images of the folder"
    _absent: ClassVar[str] = f"is no image of the folder: write its path from there, which ends in {EXPECTED_ENDINGS}"
    _to_state: ClassVar[str] = "a column 'split' decides it otherwise"

    @property
    def _query_source(self) -> str:
        """Who wrote the queries."""
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
        """The row with the names of images as the folder has them."""
        group, others = (tuple(map(self._spelled, names)) for names in (row.group, row.others))
        reference, target = self._spelled(row.reference), self._spelled(row.target)
        return replace(row, reference=reference, target=target, group=group, others=others)

    def _place(self) -> Path:
        return self.root / (self.annotations or "")

    def image_path(self, name: str) -> Path:
        """The name is a path from the folder."""
        return self.root / name

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[tuple[Triplet, ...], tuple[Triplet, ...]]:
        """Without annotations: queries whose images make up the share, and the triplets that name none of these."""
        if self.annotations is not None:
            return tuple(generated), ()
        names = {name for triplet in generated for name in names_of(triplet)}
        held: set[str] = set()
        for triplet in sorted(generated, key=lambda each: lot(each.reference_name)):
            if len(held) >= self.held_out * len(names):
                break
            held |= names_of(triplet)
        training = tuple(triplet for triplet in generated if not names_of(triplet) & held)
        queries = tuple(triplet for triplet in generated if names_of(triplet) <= held)
        return training, queries

    def with_queries(self, generated: Sequence[Triplet], of: int) -> "Folder":
        """Without annotations: scored by these."""
        return self if self.annotations is not None else replace(self, queries=tuple(generated), held_out_of=of)

    @property
    def _assigned(self) -> Sequence[Assigned]:
        """Without annotations: the generated queries that were held out."""
        if self.annotations is not None or not self.queries:
            return super()._assigned
        rule = (
            f"generated triplets, held out by lot: those of a share of {self.held_out:g} of the images, by a hash of "
            "the references' names"
        )
        return (Assigned("val", len(self.queries), self.held_out_of, rule),)

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Without annotations, the queries that were held out, over all images."""
        if self.annotations is not None:
            return super().evaluation_splits()
        return (self._split("val", list(self.queries)),) if self.queries else ()

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Without annotations, all images are there to learn from."""
        if self.annotations is not None:
            return super().annotated_splits()
        return (AnnotatedSplit("train", (), dict(zip(self._every.names, self._every.paths, strict=True))),)
