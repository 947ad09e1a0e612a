"""The hashed text of a module: code as written, without comments, docstrings and blank lines."""

import hashlib

import pytest

from stages.bare_code import bare_code

# Syntax whose tokens or trees differ between versions of Python, mainly f-strings.
TEXT = '''"""A docstring.

# of two lines
"""

import os  # a comment

# another


class Thing:
    """What it is."""  # and a comment

    size: int = 3
    """Of an attribute."""

    def method(self, word="# none", other='"""'):
        r"""Raw."""
        text = """

        # stays,

        as blank lines do   
        """

        values = [
            1,  # one

            # two
            2,
        ]
        shown = f"{self.size:#x} # {word!r} {{}} {'#'}"
        long = f"""{
            self.size

            + 1
        }

        # stays
        """
        f"{word}"
        "a string" "in two parts"
        return text, values, shown, long \\
            , os


ä = "ü"; ö = {"é": "é"}
'''  # noqa: W291
BARE = '''import os
class Thing:
    size: int = 3
    def method(self, word="# none", other='"""'):
        text = """

        # stays,

        as blank lines do   
        """
        values = [
            1,
            2,
        ]
        shown = f"{self.size:#x} # {word!r} {{}} {'#'}"
        long = f"""{
            self.size

            + 1
        }

        # stays
        """
        f"{word}"
        return text, values, shown, long \\
            , os
ä = "ü"; ö = {"é": "é"}
'''  # noqa: W291


def test_code_stays_as_it_is_written() -> None:
    """The text is equal on every version of Python, and so is the hash."""
    assert bare_code(TEXT) == BARE
    assert hashlib.sha256(bare_code(TEXT).encode()).hexdigest()[:16] == hashlib.sha256(BARE.encode()).hexdigest()[:16]


@pytest.mark.parametrize("text", ["", "\n\n", "# alone", "# alone\n", '"""Doc."""', '"""Doc."""\n'])
def test_a_module_without_code_is_empty(text: str) -> None:
    assert bare_code(text) == ""


def test_it_is_bare_already() -> None:
    assert bare_code(BARE) == BARE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1\n", "x = 2\n"),
        ("x = '#a'\n", "x = '#b'\n"),
        ("x = '''\n'''\n", "x = '''\n\n'''\n"),
        ("if x:\n    y()\nz()\n", "if x:\n    y()\n    z()\n"),
    ],
)
def test_code_that_changes_shows(before: str, after: str) -> None:
    assert bare_code(before) != bare_code(after)


ENTRIES = """REGISTRY = {
    # The first.
    "one": "pack.one:One",
    "twö": Entry(
        "pack.two:Two",  # the second

        ("é", 2),
    ),
    "three": "pack.three:Three"
}
ROW = {"one": "pack.one:One", "two": "pack.two:Two", "three": "pack.three:Three"}
"""


def test_entries_of_other_modules_are_left_out() -> None:
    assert bare_code(ENTRIES, frozenset({"pack.two"})) == (
        'REGISTRY = {\n    "one": "pack.one:One",\n    "three": "pack.three:Three"\n}\n'
        'ROW = {"one": "pack.one:One", "three": "pack.three:Three"}\n'
    )
    left = bare_code(ENTRIES, frozenset({"pack.two", "pack.three", "pack.four"}))
    assert left == 'REGISTRY = {\n    "one": "pack.one:One",\n}\nROW = {"one": "pack.one:One", }\n'


def test_an_entry_that_names_a_module_that_stays_is_kept() -> None:
    """Only the inner entries of a dict of registries are left out."""
    text = 'BY = {\n    "kind": {\n        "one": "pack.one:One",\n        "two": "pack.two:Two",\n    },\n}\n'
    assert bare_code(text, frozenset({"pack.two"})) == text.replace('        "two": "pack.two:Two",\n', "")
    assert bare_code(text, frozenset({"pack.one", "pack.two"})) == "BY = {\n}\n"
