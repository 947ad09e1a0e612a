"""Many texts or paths in two arrays: a Python object for each takes several times the memory of its text.

Processes that are forked share the arrays. They would copy a list of objects page by page, because Python writes the
number of references into each object that a process uses.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload


class PackedTexts(Sequence[str]):
    """Texts by position. A text is made when it is asked for; a slice shares no memory with the whole."""

    def __init__(self, texts: Iterable[str]) -> None:
        content = bytearray()
        ends = array("q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogatepass")  # names of files may contain halves of characters
            ends.append(len(content))
        self._content = content
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> "PackedTexts": ...

    def __getitem__(self, position: int | slice) -> "str | PackedTexts":
        places = range(len(self))[position]
        if isinstance(places, range):
            return self if places == range(len(self)) else PackedTexts(map(self._text, places))
        return self._text(places)

    def __iter__(self) -> Iterator[str]:
        return map(self._text, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def _text(self, position: int) -> str:
        return self._content[self._ends[position] : self._ends[position + 1]].decode("utf-8", "surrogatepass")


class PackedPaths(Sequence[Path]):
    """Paths by position, from paths or their texts. A `Path` is made when it is asked for."""

    def __init__(self, paths: Iterable[Path] | PackedTexts) -> None:
        texts = paths._texts if isinstance(paths, PackedPaths) else paths
        self._texts: PackedTexts = texts if isinstance(texts, PackedTexts) else PackedTexts(map(str, texts))

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, position: int) -> Path: ...

    @overload
    def __getitem__(self, position: slice) -> "PackedPaths": ...

    def __getitem__(self, position: int | slice) -> "Path | PackedPaths":
        found = self._texts[position]
        return Path(found) if isinstance(found, str) else PackedPaths(found)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
