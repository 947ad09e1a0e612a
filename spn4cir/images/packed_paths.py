"""Paths of many images in one array, for processes that decode them."""

import os
from array import array
from collections.abc import Iterable
from pathlib import Path


class PackedPaths:
    """Paths by position.

    Processes that are forked share the array. They would copy a list of paths page by page, because Python writes the
    number of references into each object that a process uses.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        texts = bytearray()
        ends = array("q", [0])
        for path in paths:
            texts += os.fsencode(path)
            ends.append(len(texts))
        self._texts = bytes(texts)
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> Path:
        """The path at a position from 0."""
        return Path(os.fsdecode(self._texts[self._ends[position] : self._ends[position + 1]]))
