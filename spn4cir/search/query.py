"""Queries of a search: a picture and a text, read and checked."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.search.pictures import read_picture


@dataclass(frozen=True)
class Query:
    """A query that was read and checked.

    Attributes:
        pixels: what the network sees of its picture, before it is normalised.
        text: what is to be different.
        digest: of the picture's pixels.
        name: of the gallery's picture where it is one.
    """

    pixels: UInt8[Tensor, "3 size size"]
    text: str
    digest: bytes
    name: str | None = None


def read_query(composer: Composer, image: Path | Image.Image, text: str, name: str | None = None) -> Query:
    """Decodes the picture. Raises InputError when that fails or the text is empty."""
    if not text.strip():
        raise InputError(f"the text is empty ({text!r}); say what is to be different, as in 'is red with long sleeves'")
    read = read_picture(image, composer.preprocess)
    return Query(read.pixels, text, read.picture.digest, name)


def text_warning(composer: Composer, text: str) -> str | None:
    """What to say of a text that will be cut; None of others."""
    tokens = composer.count_tokens(text)
    if tokens <= composer.max_tokens:
        return None
    return (
        f"the text has {tokens} tokens, {composer.family} reads {composer.max_tokens}: the rest is cut; "
        "shorten the text"
    )
