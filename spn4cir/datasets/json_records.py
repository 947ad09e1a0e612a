"""Reads files that are a JSON list of objects, such as annotations, one object at a time."""

import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from spn4cir.datasets.records import checked_list
from spn4cir.errors import InputError
from spn4cir.files import check_characters, read_json
from spn4cir.readable import check_text_file

# Characters that are read at a time.
_BLOCK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = JSONDecoder()


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON list. The file is read in blocks, because its objects take several times its size.

    Raises InputError for anything else, when the reading comes there.
    """
    check_text_file(path)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            yield from _Reader(stream).objects()
    except (ValueError, RecursionError, OSError):
        # Raises the error with its place in the file.
        checked_list(read_json(path), lambda record: isinstance(record, dict), "objects", path)
        raise InputError(f"{path}: expected a JSON list of objects; check that this is the annotation file") from None


class _Reader:
    """A position in a text that is read in blocks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._place = 0

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yields the objects of a list. Raises ValueError or RecursionError for any other text."""
        self._expect("[")
        following = self._next()
        while following != "]":
            yield self._object()
            following = self._next()
            if following == ",":
                self._expect(",")
            elif following != "]":
                raise ValueError(following)
        self._expect("]")
        if rest := self._next():
            raise ValueError(rest)

    def _next(self) -> str:
        """Returns the next character that is not white space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._place)
            assert found is not None
            self._place = found.end()
            if self._place < len(self._text) or not self._read():
                return self._text[self._place : self._place + 1]

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(character)
        self._place += 1

    def _object(self) -> dict[str, Any]:
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
                break
            except JSONDecodeError:  # it may be cut by the end of the block
                if not self._read():
                    raise
        if not isinstance(value, dict):
            raise ValueError(value)
        check_characters(self._text[self._place : end], value)
        self._place = end
        return value

    def _read(self) -> bool:
        """Reads more text: twice as much each time an object is longer. Returns False at the end of the file."""
        rest = self._text[self._place :]
        block = self._stream.read(max(_BLOCK, len(rest)))
        self._text, self._place = rest + block, 0
        return bool(block)
