"""Ranks of generated triplets' targets over a toy bank, with the reference and by the text alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.training.bank import Bank
from spn4cir.training.reference_rows import StoredReferences
from spn4cir.training.text_ranks import rank_texts
from spn4cir.types import Triplet
from tests.conftest import CPU
from tests.helpers.stub import StubComposer

IMAGES = 6


class CountingReferences(StoredReferences):
    """Counts how often each row is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, IMAGES)
        self.asked: list[int] = []

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        self.asked.extend(rows.tolist())
        return super().__getitem__(rows)


def bank(folder: Path, reference: dict[int, dict[int, float]]) -> Bank:
    """Image j's target is the unit vector j: a query scores it by the query's component j.

    Args:
        folder: where the references are stored.
        reference: what each image adds to the components of a query, if it adds anything.
    """
    features = np.zeros((IMAGES, 12), dtype=np.float32)
    for row, components in reference.items():
        for component, value in components.items():
            features[row, component] = value
    np.save(folder / "reference.npy", features)
    row = {f"i{row}": row for row in range(IMAGES)}
    return Bank(CountingReferences(folder / "reference.npy"), torch.eye(IMAGES, 12), row | {"copy of i1": 1})


def meaning(*components: float) -> Tensor:
    return torch.tensor([*components, *[0.0] * (12 - len(components))])


def ranks(composer: StubComposer, of: Bank, *triplets: Triplet, batch_size: int = 2) -> tuple[list[int], list[int]]:
    found = rank_texts(composer, of, triplets, batch_size, 0, CPU)
    return found.query.tolist(), found.alone.tolist()


def test_the_reference_decides_one_rank_and_not_the_other(tmp_path: Path) -> None:
    """The text alone finds i2, i3, i4, i1; the reference adds 10 to i1."""
    composer = StubComposer({"redder": meaning(0, 1, 4, 3, 2)})
    of = bank(tmp_path, {0: {1: 10}})
    assert ranks(composer, of, Triplet("i0", ("redder",), "i1")) == ([0], [3])
    assert ranks(composer, of, Triplet("i5", ("redder",), "i1")) == ([3], [3])
    assert ranks(composer, of, Triplet("i0", ("redder",), "copy of i1")) == ([0], [3]), "a duplicate has the row of i1"


def test_the_reference_is_not_counted(tmp_path: Path) -> None:
    """It scores highest in both rankings; a target that is the reference gets the last rank."""
    composer = StubComposer({"redder": meaning(9, 3, 2, 1)})
    of = bank(tmp_path, {0: {0: 9}})
    assert ranks(composer, of, Triplet("i0", ("redder",), "i1"), Triplet("i0", ("redder",), "i3")) == ([0, 2], [0, 2])
    assert ranks(composer, of, Triplet("i0", ("redder",), "i0")) == ([IMAGES - 1], [IMAGES - 1])


def test_candidates_that_tie_with_the_target_rank_above_it(tmp_path: Path) -> None:
    composer = StubComposer({"redder": meaning(0, 3, 3, 3, 5), "nothing": meaning()})
    of = bank(tmp_path, {})
    assert ranks(composer, of, Triplet("i0", ("redder",), "i1")) == ([3], [3])
    assert ranks(composer, of, Triplet("i0", ("nothing",), "i1")) == ([4], [4]), "all other images but the reference"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_texts_keep_their_order_and_each_reference_is_read_once(tmp_path: Path, batch_size: int) -> None:
    """Triplets have different numbers of texts and share references."""
    composer = StubComposer({"a": meaning(0, 4, 3, 2, 1), "b": meaning(0, 1, 2, 3, 4), "c": meaning(0, 9)})
    of = bank(tmp_path, {5: {3: 10}})
    triplets = [
        Triplet("i5", ("a", "b", "c"), "i3"),
        Triplet("i0", ("b",), "i4"),
        Triplet("i5", ("b",), "i1"),
        Triplet("i2", ("c", "a"), "i4"),
    ]
    assert ranks(composer, of, *triplets, batch_size=batch_size) == ([0, 0, 0, 0, 3, 4, 2], [2, 1, 4, 0, 3, 4, 2])
    assert isinstance(of.reference, CountingReferences)
    assert of.reference.asked == [0, 2, 5]


def test_what_cannot_be_ranked_is_named(tmp_path: Path) -> None:
    of = bank(tmp_path, {})
    with pytest.raises(InputError, match="generated triplets: image 'i9' is not among the 6 unique training images"):
        ranks(StubComposer(), of, Triplet("i0", ("a",), "i9"))
    with pytest.raises(InputError, match="features of stage 1 are not finite"):
        ranks(StubComposer({"a": torch.full((12,), torch.nan)}), of, Triplet("i0", ("a",), "i1"))
