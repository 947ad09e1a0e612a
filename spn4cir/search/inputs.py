"""Inputs of an encoder: images, texts, or both."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from spn4cir.errors import InputError
from spn4cir.images.endings import is_image

ImageInput = str | os.PathLike[str] | Image.Image
# A text, an image (also as the path of a file), or `{"image": ..., "text": ...}` with one of them or both.
Input = str | os.PathLike[str] | Image.Image | Mapping[str, Any]


class Item(NamedTuple):
    """The image and the text of an input; None for a missing part."""

    image: ImageInput | None
    text: str | None


def read_item(given: Input) -> Item:
    """Splits an input into image and text.

    A string that names an existing file is an image, and any other string is a text. In a dict, the key decides:
    `image` is a path, `text` is a text.

    Raises:
        InputError: the input is neither an image, nor a text, nor a dict of them, or the string looks like the path of
            an image that does not exist.
    """
    if isinstance(given, str):
        return Item(given, None) if _names_image(given) else Item(None, given)
    if isinstance(given, (os.PathLike, Image.Image)):
        return Item(given, None)
    if not isinstance(given, Mapping) or not given or not given.keys() <= {"image", "text"}:
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise InputError(
            f"an input is a text, an image, or a dict of 'image' and 'text', not {shown}; give one of these"
        )
    image, text = given.get("image"), given.get("text")
    if image is not None and not isinstance(image, (str, os.PathLike, Image.Image)):
        raise InputError(f"'image' is a path or a PIL image, not {type(image).__name__}; give one of these")
    if (text is not None and not isinstance(text, str)) or (text is None and image is None):
        raise InputError(f"'text' is a string, not {type(text).__name__}; give one")
    return Item(image, text)


def _names_image(given: str) -> bool:
    """Whether a string names an existing file. Raises InputError for the path of an image that does not exist."""
    if os.path.isfile(given):  # noqa: PTH113 - Path.is_file raises OSError for a long text
        return True
    if is_image(given) and ("/" in given or os.sep in given or not any(map(str.isspace, given))):
        raise InputError(f"{given}: no such image; check the path, or give {{'text': ...}} if it is a text")
    return False


def read_items(given: Sequence[Input] | Input) -> tuple[list[Item], bool]:
    """Splits one or several inputs; the second value is whether it was one. Raises InputError as `read_item` does."""
    if isinstance(given, (str, os.PathLike, Image.Image, Mapping)):
        return [read_item(given)], True
    return [read_item(each) for each in given], False
