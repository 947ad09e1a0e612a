"""The text of a Python module without the parts that cannot change a result: comments, docstrings and blank lines.

The text is cut at positions instead of printed from a syntax tree or from tokens: both differ between versions of
Python, but these positions do not.
"""

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import accumulate

Span = tuple[int, int]

_LAYOUT_ONLY = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT}
_FORMATTED = re.compile(r"[A-Za-z]*[fFtT]")
# The rest of the line after an entry of a dict.
_REST_OF_ENTRY = re.compile(r"\A(?:\s*,)?[ \t]*(?:#[^\n]*)?\n?")
# Registries name classes as "package.module:Class".
REGISTERED = re.compile(r"([a-z_][\w.]*):[A-Z]\w*")


def bare_code(text: str, left_out: frozenset[str] = frozenset()) -> str:
    """The module's text without comments, docstrings and blank lines.

    Blank lines and `#` within strings are kept. Any string that is a whole statement counts as a docstring.

    Args:
        text: source of the module; lines end with a newline.
        left_out: dotted names of modules; also leaves out the entries of dicts whose values register only classes
            ("module:Class") of these modules.
    """
    offsets = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    return _without(text, [*_unread(text, offsets), *(_entries(text, offsets, left_out) if left_out else ())])


def _without(text: str, spans: Iterable[Span]) -> str:
    kept, end = [], 0
    for start, stop in sorted(spans):
        kept.append(text[end:start])
        end = max(end, stop)
    return "".join([*kept, text[end:]])


def _unread(text: str, offsets: list[int]) -> Iterator[Span]:
    """Spans of comments, of docstrings and of blank lines."""
    statement: list[tokenize.TokenInfo] = []
    row, end, depth = 0, 0, 0  # end of the last code token; number of open f-strings (tokens of their own since 3.12)
    for token in tokenize.generate_tokens(StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        depth += name.endswith("STRING_START") - name.endswith("STRING_END")
        if depth or token.type not in _LAYOUT_ONLY:
            statement.append(token)
            row, end = token.end[0], offsets[token.end[0] - 1] + token.end[1]
        elif token.type == tokenize.COMMENT and token.start[0] == row:
            yield end, offsets[token.end[0] - 1] + token.end[1]
        elif token.type == tokenize.NL and token.start[0] != row:
            yield offsets[token.start[0] - 1], offsets[token.start[0]]
        elif token.type == tokenize.NEWLINE:
            if statement and all(_is_plain_string(each) for each in statement):
                yield offsets[statement[0].start[0] - 1], offsets[token.end[0]]
            statement = []


def _is_plain_string(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.STRING and not _FORMATTED.match(token.string)


def _entries(text: str, offsets: list[int], left_out: frozenset[str]) -> Iterator[Span]:
    """Spans, whole lines included, of the dict entries that register only classes of the modules left out."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            modules = frozenset(registered(ast.walk(value)))
            if key is not None and modules and modules <= left_out:
                start = _offset(text, offsets, key.lineno, key.col_offset)
                before = text[offsets[key.lineno - 1] : start]
                rest = text[_offset(text, offsets, value.end_lineno or 0, value.end_col_offset or 0) :]
                yield start - (len(before) if before.isspace() else 0), len(text) - len(_REST_OF_ENTRY.sub("", rest, 1))


def registered(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules of the classes that strings among the nodes register."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = REGISTERED.fullmatch(node.value)
            if found:
                yield found[1]


def _offset(text: str, offsets: list[int], row: int, byte: int) -> int:
    """Converts a position in a syntax tree, which counts bytes of UTF-8, to a position in the text."""
    line = text[offsets[row - 1] : offsets[row] - 1]
    return offsets[row - 1] + len(line.encode()[:byte].decode())
