"""Inputs of an encoder: pictures, texts, or both."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from spn4cir.errors import InputError

Picture = str | os.PathLike[str] | Image.Image
# A text, a picture, or `{"image": ..., "text": ...}` with one of them or both.
Input = str | os.PathLike[str] | Image.Image | Mapping[str, Any]


class Item(NamedTuple):
    """An input, taken apart."""

    image: Picture | None
    text: str | None


def read_item(given: Input) -> Item:
    """Takes an input apart: a string is a text, but the path of a picture under `image`.

    Raises InputError for one that is neither a picture, nor a text, nor both.
    """
    if isinstance(given, str):
        return Item(None, given)
    if isinstance(given, (os.PathLike, Image.Image)):
        return Item(given, None)
    if not isinstance(given, Mapping) or not given or not given.keys() <= {"image", "text"}:
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise InputError(f"an input is a text, a picture, or a dict of 'image' and 'text', not {shown}")
    image, text = given.get("image"), given.get("text")
    if image is not None and not isinstance(image, (str, os.PathLike, Image.Image)):
        raise InputError(f"'image' is a path or a PIL image, not {type(image).__name__}")
    if (text is not None and not isinstance(text, str)) or (text is None and image is None):
        raise InputError(f"'text' is a string, not {type(text).__name__}")
    return Item(image, text)


def read_items(given: Sequence[Input] | Input) -> tuple[list[Item], bool]:
    """The inputs taken apart, and whether it was a single one. Raises InputError as `read_item`."""
    if isinstance(given, (str, os.PathLike, Image.Image, Mapping)):
        return [read_item(given)], True
    return [read_item(each) for each in given], False
