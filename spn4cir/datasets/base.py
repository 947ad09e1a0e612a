"""What layouts with annotated queries share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from spn4cir.types import Gallery, Triplet


class AnnotatedQueries:
    """Base of layouts whose queries are all annotated: nothing is held out of generated triplets."""

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[tuple[Triplet, ...], tuple[Triplet, ...]]:
        """Holds out nothing: all generated triplets are there to learn from."""
        return tuple(generated), ()

    def with_queries(self, generated: Sequence[Triplet], of: int) -> Self:  # noqa: ARG002 - for other layouts
        """Returns the layout itself, which is scored by its annotated queries."""
        return self


def unique_gallery(triplets: Sequence[Triplet], image_path: Callable[[str], Path]) -> Gallery:
    """The images that `triplets` name, each once: in their order, reference before target."""
    names = dict.fromkeys(
        name for triplet in triplets for name in (triplet.reference_name, triplet.target_name) if name is not None
    )
    return Gallery(tuple(names), tuple(image_path(name) for name in names))
