"""Many texts or paths in two arrays: a Python object for each takes several times the memory of its text.

Processes that are forked share the arrays. They would copy a list of objects page by page, because Python writes the
number of references into each object that a process uses.
"""

import os
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar, overload

Item = TypeVar("Item")


class PackedTexts(Sequence[str]):
    """Texts by position. A text is made when it is asked for; a slice shares no memory with the whole."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._content = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text at the end. Other threads can read those before it meanwhile."""
        self._content += text.encode("utf-8", "surrogatepass")  # names of files may contain halves of characters
        self._ends.append(len(self._content))

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


class TextsByHash:
    """Texts by hash; each takes about 200 bytes beside its own. Threads can read while one of them writes."""

    def __init__(self) -> None:
        self._positions: dict[bytes, int] = {}
        self._texts = PackedTexts(())

    def __len__(self) -> int:
        return len(self._positions)

    def __setitem__(self, key: bytes, text: str) -> None:
        self._texts.append(text)
        self._positions[key] = len(self._texts) - 1

    def get(self, key: bytes) -> str | None:
        """Returns the last text that was set for a hash, or None."""
        position = self._positions.get(key)
        return None if position is None else self._texts[position]


class PackedItems(Sequence[Item]):
    """Items by position, each packed into a text. An item is made when it is asked for.

    A subclass makes an item from its text (`_made`); its constructor takes items, or their texts.
    """

    _texts: PackedTexts

    @abstractmethod
    def __init__(self, items: Iterable[Item] | PackedTexts = ()) -> None: ...

    @staticmethod
    @abstractmethod
    def _made(text: str) -> Item: ...

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, position: int) -> Item: ...

    @overload
    def __getitem__(self, position: slice) -> Self: ...

    def __getitem__(self, position: int | slice) -> Item | Self:
        found = self._texts[position]
        return self._made(found) if isinstance(found, str) else type(self)(found)

    def __iter__(self) -> Iterator[Item]:
        return map(self._made, self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


class PackedPaths(PackedItems[Path]):
    """Paths by position, from paths or their texts. A `Path` is made when it is asked for."""

    _made = Path

    def __init__(self, items: Iterable[Path] | PackedTexts = ()) -> None:
        texts = items._texts if isinstance(items, PackedPaths) else items
        self._texts = texts if isinstance(texts, PackedTexts) else PackedTexts(map(str, texts))

    def absolute_texts(self) -> PackedTexts:
        """The texts of the absolute paths; without a copy if all paths are absolute."""
        if all(map(os.path.isabs, self._texts)):
            return self._texts
        return PackedTexts(str(path.absolute()) for path in self)
