"""What layouts with annotated queries share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from spn4cir.errors import InputError
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


def annotated_in(files: Mapping[str, Path]) -> tuple[str, ...]:
    """The splits whose file is there. Raises InputError that lists the files, where none is.

    Args:
        files: the annotation file of each split.
    """
    there = tuple(split for split, path in files.items() if path.is_file())
    if not there:
        first, *others = files.values()
        names = ", ".join(path.name for path in others)
        raise InputError(
            f"{first}: no such file, nor is {names} beside it; check the path, or the root folder and the layout"
        )
    return there
