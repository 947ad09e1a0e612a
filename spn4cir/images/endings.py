"""Endings of the names of image files. This module does not import torch.

The endings are those that Pillow registers for the formats of `_FORMATS`, as far as the installed Pillow decodes them:
`.jpg .jpeg .jfif .jpe .png .apng .webp .gif .bmp .dib .tif .tiff .avif .jp2 .ppm ...`, in any case of letters. Pillow
also opens files that are not treated as images: documents, films, icons, layered drawings and scientific data.
"""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache

from PIL import Image, features

from spn4cir.utf8 import printable

_FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
)
# Decoders that Pillow may be built without.
_OPTIONAL = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "MPO": "jpg", "WEBP": "webp"}
# Annotations and archives, which are expected next to images and not counted as skipped.
_NOTES = frozenset({".csv", ".json", ".jsonl", ".parquet", ".arrow", ".data", ".tar"})
EXPECTED_ENDINGS = ".png, .jpg, .jpeg, .webp, .tif or another ending of an image that Pillow reads"


@cache
def image_endings() -> frozenset[str]:
    """Returns the endings of image files, in lower case."""
    Image.preinit()  # keeps the common formats first in the order in which Pillow tries them
    registered = Image.registered_extensions()
    return frozenset(ending for ending, kind in registered.items() if kind in _FORMATS and _is_installed(kind))


def _is_installed(kind: str) -> bool:
    return kind not in _OPTIONAL or bool(features.check(_OPTIONAL[kind]))


def split_ending(name: str) -> tuple[str, str]:
    """Splits the name of a file into the name without its ending, and the ending in lower case."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - many names, plain strings
    return stem, ending.lower()


def is_image(name: str) -> bool:
    """Returns whether the name of a file has the ending of an image."""
    return split_ending(name)[1] in image_endings()


def passed_over(names: Iterable[str]) -> Counter[str]:
    """Counts files that are not images, by ending, without annotations and names that begin with a dot."""
    endings = (printable(split_ending(name)[1]) for name in names if not name.startswith("."))
    return Counter(ending for ending in endings if ending not in image_endings() and ending not in _NOTES)


def passed_over_line(passed: Counter[str]) -> str:
    """Returns the line that reports the counts, the most frequent ending first; empty if there are none."""
    if not passed:
        return ""
    found = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in found)
    files = "file that is not an image" if passed.total() == 1 else "files that are not images"
    return f"passed over {passed.total():,} {files}: {counts}"
