"""Annotation rows divided into train, val and test."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from spn4cir.datasets.records import SKIP
from spn4cir.datasets.rows import Row
from spn4cir.datasets.splits import SPLITS, Assigned, assign_splits
from spn4cir.errors import InputError
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

    @cached_property
    def has_groups(self) -> bool:
        """Whether rows of val or test have groups, within which the target is ranked too."""
        return any(row.group for _, row in self.of("val", "test"))

    def check_groups(self, place: str, names: Container[str] | None) -> None:
        """Checks the groups of the queries: either all queries have one, or none.

        Args:
            place: the file or folder of the rows, for messages.
            names: the images that exist; None: absent images are no error.

        Raises:
            InputError: a group lacks the reference or the target, or contains an absent image.
        """
        for position, row in self.of("val", "test") if self.has_groups else ():
            row_place = f"{place}: row {position + 1}"
            if not row.group:
                raise InputError(f"{row_place} has no group; give every row of val and test one, or none of them")
            if lacking := {row.reference, row.target} - set(row.group):
                raise InputError(f"{row_place}: its group lacks {sorted(lacking)}; add the reference and the target")
            if names is not None and (absent := [name for name in row.group if name not in names]):
                raise InputError(
                    f"{row_place}: '{absent[0]}' of its group is absent; add it, or leave it out by {SKIP}"
                )


def divide(rows: Sequence[Row], held_out: float, all_scored: bool) -> RowsBySplit:
    """Divides rows by the split that they state; `assign_splits` assigns the others."""
    stated, references = [row.split for row in rows], [row.reference for row in rows]
    splits, assigned = assign_splits(stated, references, held_out, all_scored)
    found: dict[str, list[tuple[int, Row]]] = {split: [] for split in SPLITS}
    for position, (split, row) in enumerate(zip(splits, rows, strict=True)):
        found[split].append((position, row))
    return RowsBySplit(found, assigned)
