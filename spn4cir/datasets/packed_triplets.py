"""Many triplets in one array: as Python objects, each takes several times the memory of its names and texts."""

from collections.abc import Iterable, Iterator, Sequence
from json import JSONDecoder, JSONEncoder
from typing import overload

from spn4cir.packed import PackedTexts
from spn4cir.types import Triplet

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = JSONDecoder().decode


class PackedTriplets(Sequence[Triplet]):
    """Triplets by position. A `Triplet` is made when it is asked for."""

    def __init__(self, triplets: Iterable[Triplet] = ()) -> None:
        self._texts = PackedTexts(map(_packed, triplets))

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, position: int) -> Triplet: ...

    @overload
    def __getitem__(self, position: slice) -> "PackedTriplets": ...

    def __getitem__(self, position: int | slice) -> "Triplet | PackedTriplets":
        if isinstance(position, slice):
            return PackedTriplets(map(_unpacked, self._texts[position]))
        return _unpacked(self._texts[position])

    def __iter__(self) -> Iterator[Triplet]:
        return map(_unpacked, self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def _packed(triplet: Triplet) -> str:
    return _encode(
        (
            triplet.reference_name,
            triplet.captions,
            triplet.target_name,
            triplet.query_id,
            triplet.category,
            triplet.subset_names,
            triplet.generated,
            triplet.other_targets,
            triplet.aspects,
        )
    )


def _unpacked(text: str) -> Triplet:
    reference, captions, target, query, category, subset, generated, others, aspects = _decode(text)
    return Triplet(
        reference, tuple(captions), target, query, category, tuple(subset), generated, tuple(others), tuple(aspects)
    )
