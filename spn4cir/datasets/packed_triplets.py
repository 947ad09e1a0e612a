"""Many triplets in one array: as Python objects, each takes several times the memory of its names and texts."""

from collections.abc import Iterable
from json import JSONDecoder, JSONEncoder

from spn4cir.packed import PackedItems, PackedTexts
from spn4cir.types import Triplet

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = JSONDecoder().decode


class PackedTriplets(PackedItems[Triplet]):
    """Triplets by position, from triplets or their texts. A `Triplet` is made when it is asked for."""

    def __init__(self, items: Iterable[Triplet] | PackedTexts = ()) -> None:
        self._texts = items if isinstance(items, PackedTexts) else PackedTexts(map(_packed, items))

    @staticmethod
    def _made(text: str) -> Triplet:
        reference, captions, target, query, category, subset, generated, others, aspects = _decode(text)
        return Triplet(
            reference, tuple(captions), target, query, category, tuple(subset), generated, tuple(others), tuple(aspects)
        )


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
