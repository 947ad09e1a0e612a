"""The images of one folder by their file name without its ending."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spn4cir.images.endings import image_endings, split_ending
from spn4cir.images.spelling import Spellings
from spn4cir.images.usable import unusable

# The order of preference among several files of one name; other image endings follow alphabetically.
_FIRST = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImagesByName:
    """Finds images by name, with any ending.

    If several files have one name, the first that can be decoded is used, in the order png, jpg, jpeg, other endings.

    Attributes:
        folder: the folder of the images; its sub-folders are not read.
    """

    folder: Path

    def find(self, name: str) -> Path | None:
        """Returns the path of an image, or None if it is absent; the Unicode form of accents makes no difference."""
        return self._paths.get(name) or self._paths.get(self._spellings.find(name) or name)

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self._paths, self.folder)

    @cached_property
    def _paths(self) -> Mapping[str, Path]:
        found = self._candidates()
        several = {name: paths for name, paths in found.items() if len(paths) > 1}
        faults = unusable(path for paths in several.values() for path in paths)
        usable = {
            name: next((path for path in paths if path not in faults), paths[0]) for name, paths in several.items()
        }
        return {name: paths[0] for name, paths in found.items()} | usable

    def _candidates(self) -> dict[str, list[Path]]:
        """Returns the files of each name, in order of preference."""
        with os.scandir(self.folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        by_ending: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            stem, ending = split_ending(name)
            by_ending.setdefault(ending, []).append((stem, name))
        found: dict[str, list[Path]] = {}
        for ending in (*_FIRST, *sorted(image_endings() - {*_FIRST})):
            for stem, name in reversed(by_ending.get(ending, ())):
                found.setdefault(stem, []).append(self.folder / name)
        return found
