"""Triplets are the same when they are packed, and take little more than their names and texts."""

from dataclasses import replace

import pytest

from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.types import Triplet
from tests.helpers.memory import peak_bytes_each

FULL = Triplet("a\udcff.png", ("is 'red'", '"\n', ""), "é.png", 1 << 62, "dress", ("a", "b"), True, ("c",), ("colour",))
TRIPLETS = (FULL, Triplet("a", ("",)), replace(FULL, target_name=None, generated=False), FULL)


def test_packed_triplets_are_those_that_were_given() -> None:
    packed = PackedTriplets(iter(TRIPLETS))
    assert len(packed) == len(TRIPLETS)
    assert tuple(packed) == TRIPLETS == packed
    assert [packed[position] for position in range(len(TRIPLETS))] == list(TRIPLETS)
    assert packed[-1] == FULL
    assert packed[1:3] == TRIPLETS[1:3]
    assert packed[::-1] == TRIPLETS[::-1]
    assert packed != TRIPLETS[1:]
    assert hash(packed[0]) == hash(FULL)
    assert PackedTriplets() == ()
    with pytest.raises(IndexError):
        packed[len(TRIPLETS)]


def test_packed_triplets_take_little_more_than_their_texts() -> None:
    def make(count: int) -> None:
        made = (Triplet(f"{number:012d}", (f"{number:050d}",) * 2, f"{number:012d}") for number in range(count))
        assert len(PackedTriplets(made)) == count

    assert peak_bytes_each(make) < 2 * 50 + 2 * 12 + 140
