"""Queries of a search: an image and a text, decoded and checked."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.search.image_files import read_image


@dataclass(frozen=True)
class Query:
    """A query whose image is decoded.

    Attributes:
        pixels: the cropped pixels of the query image, before normalisation.
        text: the change to search for.
        digest: hash of all decoded pixels of the query image.
        name: the name of the query image if it is an image of the gallery; None otherwise.
    """

    pixels: UInt8[Tensor, "3 size size"]
    text: str
    digest: bytes
    name: str | None = None


def read_query(composer: Composer, image: Path | Image.Image, text: str, name: str | None = None) -> Query:
    """Decodes the query image. Raises InputError if that fails or the text is empty."""
    if not text.strip():
        raise InputError(f"the text is empty ({text!r}); describe the change, as in 'is red with long sleeves'")
    decoded = read_image(image, composer.preprocess)
    return Query(decoded.pixels, text, decoded.digests.digest, name)


def text_warning(composer: Composer, text: str) -> str | None:
    """A warning about a text that is longer than the network reads; None for other texts."""
    tokens = composer.count_tokens(text)
    if tokens <= composer.max_tokens:
        return None
    return (
        f"the text has {tokens} tokens, {composer.family} reads {composer.max_tokens}: the rest is cut; "
        "shorten the text"
    )
