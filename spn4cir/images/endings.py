"""Which files count as pictures by the ending of their names; free of torch.

The endings are those that Pillow registers for the formats of `_FORMATS`, as far as the installed Pillow decodes them:
`.jpg .jpeg .jfif .jpe .png .apng .webp .gif .bmp .dib .tif .tiff .avif .jp2 .ppm ...`, in any case of letters. Pillow
opens more than pictures: documents, films, icons, layered drawings and scientific data are none.
"""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache

from PIL import Image, features

_FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
)
# Decoders that Pillow may be built without.
_OPTIONAL = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "MPO": "jpg", "WEBP": "webp"}
# Annotations and what belongs to them: lying beside pictures, nobody takes them for some.
_NOTES = frozenset({".csv", ".json", ".jsonl", ".parquet", ".arrow", ".data", ".tar"})
EXPECTED_ENDINGS = ".png, .jpg, .jpeg, .webp, .tif or another ending of a picture that Pillow reads"


@cache
def image_endings() -> frozenset[str]:
    """The endings of pictures, in lower case."""
    Image.preinit()  # so that the common formats stay the first ones that every file is compared with
    registered = Image.registered_extensions()
    return frozenset(ending for ending, kind in registered.items() if kind in _FORMATS and _is_installed(kind))


def _is_installed(kind: str) -> bool:
    return kind not in _OPTIONAL or bool(features.check(_OPTIONAL[kind]))


def split_ending(name: str) -> tuple[str, str]:
    """A file's name without its ending, and the ending in lower case."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - many names, plain strings
    return stem, ending.lower()


def is_image(name: str) -> bool:
    """Whether a file counts as a picture by its name."""
    return split_ending(name)[1] in image_endings()


def passed_over(names: Iterable[str]) -> Counter[str]:
    """How many files are no pictures, by ending; annotations and names that begin with a dot do not count."""
    endings = (split_ending(name)[1] for name in names if not name.startswith("."))
    return Counter(ending for ending in endings if ending not in image_endings() and ending not in _NOTES)


def passed_over_line(passed: Counter[str]) -> str:
    """What to say of them, the most frequent ending first; empty where there are none."""
    if not passed:
        return ""
    found = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in found)
    files = "file that is no picture" if passed.total() == 1 else "files that are no pictures"
    return f"passed over {passed.total():,} {files}: {counts}"
