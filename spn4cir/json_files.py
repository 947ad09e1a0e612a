"""JSON files: read with one line of error, written atomically and piece by piece."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.readable import check_text_file

# The escape of one half of a character that JSON writes in two.
_SURROGATE = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


def read_json(path: Path) -> Any:
    """The parsed file, with or without a byte order mark.

    Raises InputError that names the file when it is absent, is not a file or does not parse.
    """
    check_text_file(path)
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path, or the root folder and the layout") from None
    except ValueError as error:  # also no UTF-8, a number of thousands of digits
        raise InputError(f"{path}: is not valid JSON ({error}); download or write it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its links") from None


def parse_json(text: str | bytes) -> Any:
    """Parses JSON. Raises ValueError for text that is not JSON or contains half a character (a lone surrogate)."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    check_characters(text if isinstance(text, str) else text.decode(), value)
    return value


def check_characters(text: str, value: Any) -> None:
    """Raises ValueError if a JSON text, whose value is given, contains half a character (a lone surrogate)."""
    if not _SURROGATE.search(text):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character, {error.object[error.start]!a}") from None


class JsonEntries(dict[str, Any]):
    """The entries of an object, for `write_json`: each is made when it is written.

    `json` asks whether a dictionary is empty and iterates over its items once.
    """

    def __init__(self, entries: Iterable[tuple[str, Any]]) -> None:
        self._rest = iter(entries)
        super().__init__(islice(self._rest, 1))

    def items(self) -> Any:
        """Returns an iterator over the entries, which can be used once."""
        return chain(super().items(), self._rest)


class _Iterated(list[Any]):
    """The elements of an iterator, for `json`, which asks whether a list is empty and iterates over it once."""

    def __init__(self, elements: Iterable[Any]) -> None:
        self._rest = iter(elements)
        super().__init__(islice(self._rest, 1))

    def __iter__(self) -> Iterator[Any]:
        return chain(super().__iter__(), self._rest)


def _iterated(value: Any) -> _Iterated:
    if isinstance(value, Iterator | Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return _Iterated(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Writes `value` atomically, with the keys in the order given. Its text is never in memory as a whole.

    Args:
        path: the file.
        value: a JSON-like value; an iterator or a sequence is written as a list, each element when it is made.
        indent: spaces of a level; None for one line.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=indent, ensure_ascii=False, default=_iterated)
        stream.write("\n")
