"""What the message about a bad input must be: one line that names the input and says what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.faults.places import WRITERS

_LONGEST = 2200
# A clause of a message says what to do: it begins with one of these verbs.
_VERBS = (
    "add|annotate|ask|build|call|change|check|choose|commit|compare|copy|correct|create|crop|decompress|delete|describe|"
    "download|encode|end|export|fill|free|give|index|install|keep|leave|link|log|lower|make|mend|move|name|open|pin|put|"
    "raise|remove|rename|replace|restart|restore|run|save|score|see|select|set|start|take|train|trust|type|unset|use|"
    "validate|wait|write"
)
# No verbs where they are followed by such a word: "; name of the file", ": set and list".
_NO_VERB = "and|are|has|in|is|of|or|was"
# Or it says what it expected, as pydantic does by "should be".
_REMEDY = re.compile(
    rf"[;:,.] (?:(?:and|or|then) )?(?:{_VERBS})(?: or (?:{_VERBS}))?:? (?!(?:{_NO_VERB})\b)"
    r"|[,;:(] ?expected \S|\bshould (?:be|have|match) \S"
)
# The lines that come before the error of a wrong option; the second one is its remedy.
_USAGE = re.compile(r"Usage: |Try '.* -h' for help\.$|$")
_USAGE_STATUS = 2
# Lines of progress, and what is reported about data that is used all the same.
_PROGRESS = re.compile(r": \d+/\d+ |: downloading|left out|empty text|is used as it is|were passed over|ignored")
_HELP = re.compile(r"Try '.* -h' for help\.$")
# A copy of a data set in the folder of a place: its name says nothing about the fault.
_COPY = rf"data/(?:{'|'.join(sorted(WRITERS, key=len, reverse=True))})(?![\w.])"


def wrong(errors: str, words: str, status: int, root: Path) -> str:
    """Returns what is wrong with a message; empty if nothing is.

    Args:
        errors: what was written to the stream of errors.
        words: pattern that the message contains outside of the paths of the place.
        status: exit status; 2 for an option.
        root: folder of the place.
    """
    lines = [line for line in errors.splitlines() if not _PROGRESS.search(line)]
    if status == _USAGE_STATUS:
        return _wrong_usage(lines, words)
    if len(lines) != 1:
        return f"{len(lines)} lines instead of one: {errors[:500]!r}"
    line = lines[0]
    if len(line) > _LONGEST:
        return f"a line of {len(line)} characters: {line[:300]}"
    if not line.startswith("error: "):
        return f"not a message: {line}"
    if not re.search(words, _without_places(line, root)):
        return f"lacks '{words}': {line}"
    return "" if _REMEDY.search(line) else f"says no remedy: {line}"


def _wrong_usage(lines: Sequence[str], words: str) -> str:
    """Returns what is wrong with the message about an option, which follows the usage of the command."""
    usage, rest = lines[:-1], lines[-1] if lines else ""
    if not rest.startswith("Error: ") or not all(map(_USAGE.match, usage)):
        return f"no message about an option: {lines}"
    if not re.search(words, rest):
        return f"lacks '{words}': {rest}"
    return "" if any(map(_HELP.match, usage)) or _REMEDY.search(rest) else f"says no remedy: {lines}"


def _without_places(line: str, root: Path) -> str:
    """Returns a message in which paths begin within the data set or the working folder of the place."""
    return re.sub(rf"{re.escape(str(root))}/(?:{_COPY}|data|work)?/?", "", line)
