"""Random changes of a file."""

import random
import re

_LARGEST = 100_000
_INTERESTING = (
    b"", b"\0", b"\xff", b"\n", b"\r\n", b'"', b"\\", b"null", b"true", b"-1", b"0", b"9" * 30, b"1e999", b"NaN", b"[]",
    b"{}", b"[[[[", b"{" * 50, b"\\ud800", b"\xed\xa0\x80", b"../", b"%00", b"\x7f\xff\xff\xff", b"\x80\0\0\0",
    b"\xff" * 8, b"\0" * 512,
)  # fmt: skip


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns a file with one to eight changes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64, 512))
        kind = rng.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length]
        elif kind == 4:
            data[place:place] = rng.choice(_INTERESTING)
        elif kind == 5:
            data = _with_token(data, rng)
        else:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            data[place : place + length] = other[begin : begin + length]
    return bytes(data[:_LARGEST])


def _with_token(data: bytearray, rng: random.Random) -> bytearray:
    """Replaces a word, a number or a text in quotes."""
    tokens = list(re.finditer(rb'"[^"\\]{0,40}"|[\w.]+', bytes(data)))
    if tokens:
        chosen = rng.choice(tokens)
        data[chosen.start() : chosen.end()] = rng.choice((*_INTERESTING, rng.choice(tokens)[0]))
    return data
