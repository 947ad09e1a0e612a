"""Paths of images as an annotation file lists them: by name, relative to a folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from spn4cir.images.spelling import spelled


class ListedPaths(Mapping[str, Path]):
    """The path of each image by its name.

    A path is made when it is asked for, because a `Path` takes several times the memory of its text.

    Args:
        root: the folder.
        places: path of each image below the folder, by name; it may differ from the file in the form of its accents.
    """

    def __init__(self, root: Path, places: Mapping[str, str]) -> None:
        self._root = root
        self._places = places

    def __getitem__(self, name: str) -> Path:
        return spelled(self._root, self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
