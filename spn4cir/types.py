"""Values that dataset adapters yield and every other module reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_WORDLESS = re.compile(r"[\s.?,]*")


@dataclass(frozen=True, slots=True)
class Triplet:
    """A composed query, with its target where the split contains it.

    Attributes:
        reference_name: name of the query image.
        captions: the modification texts as annotated (FashionIQ: two, CIRR: one, generated: one a template).
        target_name: name of the image to find; None in test splits.
        other_targets: further images that answer the query; empty when only one is known.
        aspects: what kinds of change its text asks for, CIRCO's semantic aspects; empty elsewhere.
        query_id: CIRR's pair id, elsewhere the position in its file.
        category: FashionIQ's dress, shirt or toptee; empty where there is none.
        subset_names: CIRR's group of similar images, reference and target among them; empty elsewhere.
        generated: True for triplets written from captions, False for annotated ones.
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
        """All images that answer the query, the one to find first; empty in test splits."""
        return () if self.target_name is None else (self.target_name, *self.other_targets)

    @property
    def has_empty_text(self) -> bool:
        """Whether one of its texts holds nothing but spaces and the marks `.`, `?` and `,`."""
        return any(_WORDLESS.fullmatch(caption) for caption in self.captions)


@dataclass(frozen=True)
class Gallery:
    """Named images, in file order. Names are unique.

    Attributes:
        names: one name an image.
        paths: the path of each image; same length as `names`.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of each name."""
        return {name: position for position, name in enumerate(self.names)}

    def path(self, name: str) -> Path | None:
        """The path of the image of a name; None for an unknown name."""
        position = self.index.get(name)
        return None if position is None else self.paths[position]

    def restrict(self, names: frozenset[str]) -> "Gallery":
        """The images whose name is in `names`, order kept."""
        kept = [position for position, name in enumerate(self.names) if name in names]
        return Gallery(tuple(self.names[i] for i in kept), tuple(self.paths[i] for i in kept))


@dataclass(frozen=True)
class CaptionedImage:
    """An image to caption, with the word that the prompt uses for it (`dress`, or `image`)."""

    name: str
    path: Path
    noun: str


@dataclass(frozen=True)
class EvaluationSplit:
    """Queries that share one gallery.

    Attributes:
        name: `dress`, `shirt`, `toptee` for FashionIQ; the split's name for CIRR.
        triplets: the queries.
        gallery: the candidate images.
        alternatives: further galleries over which the same queries are scored, by name (subsets of `gallery`).
        left_out: queries dropped because an image is missing or the target is the reference (`missing: skip`).
        missing: images of the annotation files that are not on disk or, under `skip`, cannot be decoded.
        outside: images that queries start from and that are no candidates.
        own_galleries: whether a query's candidates are its subset alone.
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
        """The paths of the candidates and of the images outside them, by name."""
        galleries = (self.gallery, self.outside)
        return {name: path for own in galleries for name, path in zip(own.names, own.paths, strict=True)}


@dataclass(frozen=True)
class UniqueImages:
    """Images without duplicates, as `optimized_images.json` contains them.

    Attributes:
        gallery: the kept images, the first met of each set of equal ones.
        row: for every name, kept or not, the position of its kept image in `gallery`.
    """

    gallery: Gallery
    row: Mapping[str, int]

    def restrict(self, usable: Gallery) -> "UniqueImages":
        """The images that a gallery contains; of each set of equal images, the first name that is in the gallery."""
        kept: dict[int, str] = {}
        for name in (*self.gallery.names, *self.row):
            if name in usable.index:
                kept.setdefault(self.row[name], name)
        names = tuple(kept[row] for row in sorted(kept))
        position = {row: number for number, row in enumerate(sorted(kept))}
        return UniqueImages(
            Gallery(names, tuple(usable.paths[usable.index[name]] for name in names)),
            {name: position[row] for name, row in self.row.items() if name in usable.index},
        )
