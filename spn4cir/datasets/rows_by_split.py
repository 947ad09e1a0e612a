"""Annotation rows divided into train, val and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spn4cir.datasets.rows import Row
from spn4cir.datasets.splits import SPLITS, Assigned, assign_splits
from spn4cir.types import Triplet


@dataclass(frozen=True)
class RowsBySplit:
    """The rows of each split.

    Attributes:
        rows: rows of each of `SPLITS`, with their positions in the file.
        assigned: rows that state no split, with the rule that assigned one.
    """

    rows: Mapping[str, Sequence[tuple[int, Row]]]
    assigned: Sequence[Assigned]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have rows, in the order of `SPLITS`."""
        return tuple(split for split in SPLITS if self.rows[split])

    def of(self, *splits: str) -> list[tuple[int, Row]]:
        """Returns the rows of some splits, with their positions."""
        return [row for split in splits for row in self.rows[split]]

    def triplets(self, split: str) -> list[Triplet]:
        """Returns the rows of a split as triplets. Train triplets have no subsets, which only evaluation uses."""
        return [
            Triplet(
                row.reference,
                row.texts,
                row.target,
                position if row.query is None else row.query,
                row.category,
                row.group if split != "train" else (),
                other_targets=row.others,
            )
            for position, row in self.rows[split]
        ]


def divide(rows: Sequence[Row], held_out: float, all_scored: bool) -> RowsBySplit:
    """Divides rows by the split that they state; `assign_splits` assigns the others."""
    stated, references = [row.split for row in rows], [row.reference for row in rows]
    splits, assigned = assign_splits(stated, references, held_out, all_scored)
    found: dict[str, list[tuple[int, Row]]] = {split: [] for split in SPLITS}
    for position, (split, row) in enumerate(zip(splits, rows, strict=True)):
        found[split].append((position, row))
    return RowsBySplit(found, assigned)
