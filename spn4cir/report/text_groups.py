"""Groups of words that say what the text of a query speaks of: colour, pattern, sleeve, length, number and others."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache

from spn4cir.report.template import read_part

# Endings of plurals and possessives, and what a word has in their place.
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("'s", ""))
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
    """The words of a text and the parts of those with a hyphen, also without the ending of a plural or a possessive."""
    for found in _WORD.findall(text.replace("\u2019", "'")):
        for word in {found, *found.split("-")}:
            yield word
            for end, single in _ENDINGS:
                if word.endswith(end) and len(word) > len(end) + 2:
                    yield word.removesuffix(end) + single
