"""Queries of a search: an image, a text or both, decoded and checked."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from spn4cir.composers.compositions import require_parts
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.search.image_files import read_image

# A file, the name of an image of the gallery, or an image.
QueryImage = str | os.PathLike[str] | Image.Image
QueryPair = tuple[QueryImage | None, str | None]


class NamedImages(Protocol):
    """The images of a gallery by name."""

    def __contains__(self, name: object) -> bool: ...

    def path(self, name: str) -> Path:
        """The path of an image. Raises InputError for a name that is not in the gallery."""


@dataclass(frozen=True)
class Query:
    """A query whose image is decoded.

    Attributes:
        pixels: the cropped pixels of the query image, before normalisation; None for a text alone.
        text: the change to search for; empty for an image alone.
        digest: hash of all decoded pixels of the query image; None for a text alone.
        name: the name of the query image if it is an image of the gallery; None otherwise.
    """

    pixels: UInt8[Tensor, "3 size size"] | None
    text: str
    digest: bytes | None
    name: str | None = None


def read_query(
    composer: Composer, image: Path | Image.Image | None, text: str | None, name: str | None = None
) -> Query:
    """Decodes the query image.

    Raises InputError if that fails, the text is not a string or is empty, both the image and the text are None, or the
    composer's rule reads only the part that is None.
    """
    if image is None and text is None:
        raise InputError("a query needs an image, a text or both, and both are None; give one of them")
    if text is not None and not isinstance(text, str):
        raise InputError(
            f"the text has the type {type(text).__name__}, expected a string; give None to use the image alone"
        )
    if text is not None and not text.strip():
        raise InputError(
            f"the text is empty ({text!r}); describe the change, as in 'is red with long sleeves', or give none"
        )
    require_parts(composer, image is not None, text is not None)
    if image is None:
        return Query(None, text or "", None)
    decoded = read_image(image, composer.preprocess)
    return Query(decoded.pixels, text or "", decoded.digests.digest, name)


def prepare_query(composer: Composer, gallery: NamedImages, image: QueryImage | None, text: str | None) -> Query:
    """Finds and decodes the query image: an image of the gallery by its name, else a file or a PIL image.

    Raises InputError as `read_query` does, and for an image that does not exist or has another type.
    """
    if isinstance(image, str) and image in gallery:
        return read_query(composer, gallery.path(image), text, image)
    if image is None or isinstance(image, Image.Image):
        return read_query(composer, image, text)
    if not isinstance(image, (str, os.PathLike)):
        raise InputError(f"the image has the type {type(image).__name__}, expected a path, a name or a PIL image")
    if not Path(image).exists():
        raise InputError(f"{image}: no such image; name a file, or an image of the gallery")
    return read_query(composer, Path(image), text)


def as_pair(query: object) -> tuple[Any, Any]:
    """A query of `Retriever.search_many` as an image and a text. Raises InputError for anything else than a pair."""
    if not isinstance(query, (tuple, list)) or len(query) != 2:
        shown = repr(str(query)[:80])
        raise InputError(f"a query is a pair (image, text), with None for a missing part, not {shown}; give one")
    return query[0], query[1]


def text_warning(composer: Composer, text: str | None) -> str | None:
    """A warning about a text that is longer than the network reads; None for other texts."""
    tokens = composer.count_tokens(text or "")
    if tokens <= composer.max_tokens:
        return None
    return (
        f"the text has {tokens} tokens, {composer.family} reads {composer.max_tokens}: the rest is cut; "
        "shorten the text"
    )
