"""Reads JSON files one value at a time: lists of objects, such as annotations, and others of a known form."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO, TypeVar

from spn4cir.datasets.records import checked_list
from spn4cir.errors import InputError
from spn4cir.json_files import check_characters, read_json
from spn4cir.readable import check_text_file

# Characters that are read at a time.
_BLOCK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = JSONDecoder()
# The errors of `JsonReader` for a file of another form.
JSON_ERRORS = (ValueError, RecursionError, OSError)
Item = TypeVar("Item")


class _DoubledKeyError(Exception):
    """A key that an object contains twice; `json` would use the last value without a word."""


def _without_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubledKeyError(next(key for key in keys if keys.count(key) > 1))
    return record


_RECORD_DECODER = JSONDecoder(object_pairs_hook=_without_doubled)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON list. The file is read in blocks, because its objects take several times its size.

    Raises InputError for anything else and for an object with a key twice, when the reading comes there.
    """
    number = 0
    try:
        with json_reader(path, _RECORD_DECODER) as reader:
            for record in reader.elements():
                if not isinstance(record, dict):
                    raise ValueError(record)
                yield record
                number += 1
    except _DoubledKeyError as error:
        raise InputError(f"{path}: element {number} has the field '{error}' twice; remove one of the two") from None
    except JSON_ERRORS:
        # Raises the error with its place in the file.
        checked_list(read_json(path), lambda record: isinstance(record, dict), "objects", path)
        raise InputError(f"{path}: expected a JSON list of objects; check that this is the annotation file") from None


@contextmanager
def json_reader(path: Path, decoder: JSONDecoder = _DECODER) -> Iterator["JsonReader"]:
    """Yields a reader of a file; the text after what the block reads must be white space.

    Raises one of `JSON_ERRORS`, and InputError as `check_text_file`.
    """
    check_text_file(path)
    with path.open(encoding="utf-8-sig") as stream:
        reader = JsonReader(stream, decoder)
        yield reader
        reader.end()


class JsonReader:
    """A position in a JSON text that is read in blocks. The methods raise one of `JSON_ERRORS` for another text.

    The yielded items of a list or an object must be read before its next one is asked for.
    """

    def __init__(self, stream: TextIO, decoder: JSONDecoder = _DECODER) -> None:
        self._stream = stream
        self._decoder = decoder
        self._text = ""
        self._place = 0

    def elements(self) -> Iterator[Any]:
        """Yields the values of a list."""
        return self._items("[]", self.value)

    def texts(self) -> Iterator[str]:
        """Yields the values of a list of texts."""
        return self._items("[]", self._text_value)

    def places(self) -> Iterator[int]:
        """Yields the position of each value of a list, before the value."""
        return self._items("[]", count().__next__)

    def entries(self) -> Iterator[tuple[str, Any]]:
        """Yields the keys and values of an object."""
        return ((key, self.value()) for key in self.each_key())

    def each_key(self) -> Iterator[str]:
        """Yields each key of an object, before its value."""
        return self._items("{}", self._key)

    def _key(self) -> str:
        key = self._text_value()
        self._expect(":")
        return key

    def _text_value(self) -> str:
        value = self.value()
        if not isinstance(value, str):
            raise ValueError(value)
        return value

    def _items(self, brackets: str, item: Callable[[], Item]) -> Iterator[Item]:
        self._expect(brackets[0])
        following = self._next()
        while following != brackets[1]:
            yield item()
            following = self._next()
            if following == ",":
                self._expect(",")
            elif following != brackets[1]:
                raise ValueError(following)
        self._expect(brackets[1])

    def end(self) -> None:
        """Checks that no text follows."""
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

    def value(self) -> Any:
        """Returns the next value."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except JSONDecodeError:  # it may be cut by the end of the block
                if not self._read():
                    raise
            else:
                if end < len(self._text) or not self._read():  # as may be a number
                    break
        check_characters(self._text[self._place : end], value)
        self._place = end
        return value

    def _read(self) -> bool:
        """Reads more text: twice as much each time an object is longer. Returns False at the end of the file."""
        rest = self._text[self._place :]
        block = self._stream.read(max(_BLOCK, len(rest)))
        self._text, self._place = rest + block, 0
        return bool(block)
