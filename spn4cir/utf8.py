"""Texts and names of files that UTF-8 cannot encode; JSON, parquet and the files of DVC contain only UTF-8.

Python reads a byte of a name or an argument that is not UTF-8 as half a character (a lone surrogate).
"""


def printable(text: str) -> str:
    r"""Returns a text with escapes for what UTF-8 cannot encode.

    Examples:
        >>> printable("caf\udce9.png")
        'caf\\udce9.png'
    """
    return text.encode(errors="backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Returns whether UTF-8 can encode a text."""
    return text.isascii() or printable(text) == text
