"""Value types that dataset adapters return and all other modules use."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spn4cir.packed import PackedPaths

_WORDLESS = re.compile(r"[\s.?,]*")


@dataclass(frozen=True, slots=True)
class Triplet:
    """A composed query and its target, if the split contains it.

    Attributes:
        reference_name: name of the query image.
        captions: modification texts, unchanged (FashionIQ: two, CIRR: one, generated triplets: one per template).
        target_name: name of the image to find; None in test splits.
        query_id: id that the data set gives the query (CIRR's pair id), else its position in the file.
        category: FashionIQ's dress, shirt or toptee; empty for no category.
        subset_names: CIRR's group of similar images, which contains reference and target; empty for no group.
        generated: whether the triplet is generated from captions rather than annotated.
        other_targets: names of further targets; empty if only one is known.
        aspects: kinds of change that the text describes (CIRCO's semantic aspects); empty for other data sets.
    """

    reference_name: str
    captions: tuple[str, ...]
    target_name: str | None = None
    query_id: int = 0
    category: str = ""
    subset_names: tuple[str, ...] = ()
    generated: bool = False
    other_targets: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of all targets, beginning with `target_name`; empty in test splits."""
        return () if self.target_name is None else (self.target_name, *self.other_targets)

    @property
    def has_empty_text(self) -> bool:
        """Whether one of the texts contains only spaces and the marks `.`, `?` and `,`."""
        return any(_WORDLESS.fullmatch(caption) for caption in self.captions)


@dataclass(frozen=True)
class Gallery:
    """Named images, in file order. Names are unique.

    Attributes:
        names: names of the images.
        paths: paths of the images, in the order of `names`; given as any sequence, and stored as `PackedPaths`.
    """

    names: tuple[str, ...]
    paths: Sequence[Path]

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", PackedPaths(self.paths))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The position of each name."""
        return {name: position for position, name in enumerate(self.names)}

    def path(self, name: str) -> Path | None:
        """Returns the path of an image; None for an unknown name."""
        position = self.index.get(name)
        return None if position is None else self.paths[position]

    def restrict(self, names: frozenset[str]) -> "Gallery":
        """Returns the gallery of the images in `names`, in unchanged order."""
        kept = [position for position, name in enumerate(self.names) if name in names]
        return Gallery(tuple(self.names[i] for i in kept), PackedPaths(self.paths[i] for i in kept))


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image to caption, and the noun for it in the prompt (`dress`, or `image`)."""

    name: str
    path: Path
    noun: str


@dataclass(frozen=True)
class EvaluationSplit:
    """Queries that share one gallery.

    Attributes:
        name: name of the split, or of FashionIQ's category or GeneCIS's task.
        triplets: the queries.
        gallery: the candidate images.
        alternatives: further galleries for the same queries, by name; they are subsets of `gallery`.
        left_out: number of queries that are left out under `missing: skip`, because an image is missing or the target
            is the reference.
        missing: number of images of the annotation files that are absent or, under `skip`, cannot be decoded.
        outside: references that are not candidates.
        own_galleries: whether each query is ranked only against its subset.
    """

    name: str
    triplets: tuple[Triplet, ...]
    gallery: Gallery
    alternatives: Mapping[str, Gallery]
    left_out: int = 0
    missing: int = 0
    outside: Gallery = Gallery((), ())
    own_galleries: bool = False

    @cached_property
    def places(self) -> Mapping[str, Path]:
        """The paths of the candidates and of the images in `outside`, by name."""
        galleries = (self.gallery, self.outside)
        return {name: path for own in galleries for name, path in zip(own.names, own.paths, strict=True)}


@dataclass(frozen=True)
class UniqueImages:
    """Images without duplicates, as `optimized_images.json` contains them.

    Attributes:
        gallery: the kept images: the first of each set of equal images.
        row: position in `gallery` of the kept image, for every name, kept or not.
    """

    gallery: Gallery
    row: Mapping[str, int]

    def restrict(self, usable: Gallery) -> "UniqueImages":
        """Returns the unique images among those of a gallery.

        The kept image of a set may be absent from the gallery; then its first other name in the gallery is kept.
        """
        kept: dict[int, str] = {}
        for name in (*self.gallery.names, *self.row):
            if name in usable.index:
                kept.setdefault(self.row[name], name)
        names = tuple(kept[row] for row in sorted(kept))
        position = {row: number for number, row in enumerate(sorted(kept))}
        return UniqueImages(
            Gallery(names, PackedPaths(usable.paths[usable.index[name]] for name in names)),
            {name: position[row] for name, row in self.row.items() if name in usable.index},
        )
