"""Groups of words that say what the text of a query speaks of: colour, pattern, sleeve, length, number and others."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache

from spn4cir.report.template import read_part

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def groups_of(text: str) -> frozenset[str]:
    """The groups of which a text has a word, as named in `text_groups.toml`."""
    words = set(_words(text.lower()))
    return frozenset(name for name, listed in word_groups().items() if not listed.isdisjoint(words))


@cache
def word_groups() -> Mapping[str, frozenset[str]]:
    """The words of each group in lower case, in the order of `text_groups.toml`."""
    return {name: frozenset(words.split()) for name, words in tomllib.loads(read_part("text_groups.toml")).items()}


def _words(text: str) -> Iterator[str]:
    """The words of a text, the parts of those with a hyphen, and all of them without a plural ending."""
    for found in _WORD.findall(text.replace("\u2019", "'")):
        for word in {found, *found.split("-")}:
            yield word
            yield from (word.removesuffix(end) for end in ("s", "es") if len(word) > len(end) + 2)
