"""Inputs of an encoder: images, texts, or both."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from spn4cir.errors import InputError

ImageInput = str | os.PathLike[str] | Image.Image
# A text, an image, or `{"image": ..., "text": ...}` with one of them or both.
Input = str | os.PathLike[str] | Image.Image | Mapping[str, Any]


class Item(NamedTuple):
    """The image and the text of an input; None for a missing part."""

    image: ImageInput | None
    text: str | None


def read_item(given: Input) -> Item:
    """Splits an input into image and text. A string is a text; under the key `image` it is a path.

    Raises InputError for an input that is neither an image, nor a text, nor a dict of them.
    """
    if isinstance(given, str):
        return Item(None, given)
    if isinstance(given, (os.PathLike, Image.Image)):
        return Item(given, None)
    if not isinstance(given, Mapping) or not given or not given.keys() <= {"image", "text"}:
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise InputError(f"an input is a text, an image, or a dict of 'image' and 'text', not {shown}")
    image, text = given.get("image"), given.get("text")
    if image is not None and not isinstance(image, (str, os.PathLike, Image.Image)):
        raise InputError(f"'image' is a path or a PIL image, not {type(image).__name__}")
    if (text is not None and not isinstance(text, str)) or (text is None and image is None):
        raise InputError(f"'text' is a string, not {type(text).__name__}")
    return Item(image, text)


def read_items(given: Sequence[Input] | Input) -> tuple[list[Item], bool]:
    """Splits one or several inputs; the second value is whether it was one. Raises InputError as `read_item` does."""
    if isinstance(given, (str, os.PathLike, Image.Image, Mapping)):
        return [read_item(given)], True
    return [read_item(each) for each in given], False
