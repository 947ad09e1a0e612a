"""Base class and helpers of layouts with annotated queries."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from spn4cir.errors import InputError
from spn4cir.packed import PackedPaths
from spn4cir.types import Gallery, Triplet


class AnnotatedQueries:
    """Base of layouts with annotated queries only: no generated triplets are held out for validation."""

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[Sequence[Triplet], Sequence[Triplet]]:
        """Returns all generated triplets as training triplets, and no queries."""
        return generated, ()

    def with_queries(self, generated: Sequence[Triplet], of: int) -> Self:  # noqa: ARG002 - for other layouts
        """Returns the layout itself: its annotated queries are scored."""
        return self


def unique_gallery(triplets: Sequence[Triplet], image_path: Callable[[str], Path]) -> Gallery:
    """Returns the images that `triplets` name, each once: in triplet order, reference before target."""
    names = dict.fromkeys(
        name for triplet in triplets for name in (triplet.reference_name, triplet.target_name) if name is not None
    )
    return Gallery(tuple(names), PackedPaths(map(image_path, names)))


def annotated_in(files: Mapping[str, Path]) -> tuple[str, ...]:
    """Returns the splits that have an annotation file. Raises InputError, which lists the files, if none has.

    Args:
        files: the annotation file of each split.
    """
    there = tuple(split for split, path in files.items() if path.is_file())
    if not there:
        first, *others = files.values()
        names = ", ".join(path.name for path in others)
        raise InputError(
            f"{first}: no such file, and none of {names} beside it; check the path, or the root folder and the layout"
        )
    return there
