"""What the fuzzer calls, without the imports of the readers."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Reader = Callable[[bytes], object]


class Target(NamedTuple):
    """A reader that the fuzzer calls.

    Attributes:
        name: name, also of the folder of its findings.
        seeds: bytes that the reader accepts.
        open: returns the reader; its files are in a folder of its own.
    """

    name: str
    seeds: Callable[[Path], list[bytes]]
    open: Callable[[Path], Reader]


def outcome(read: Reader, content: bytes) -> Exception | None:
    """Calls a reader. Returns what it raised, or None."""
    try:
        read(content)
    except Exception as error:
        return error
    return None
