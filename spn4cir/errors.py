"""The error whose message is for the user, and helpers for its text."""

from collections.abc import Sequence


class InputError(Exception):
    """A bad input, described in one line: what, got, expected, where, what to do.

    The command line and the stages print the message without a traceback and exit with status 1.
    """


def some_names(names: Sequence[str], shown: int) -> str:
    """The first few names, and how many more there are.

    Examples:
        >>> some_names(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def first_line(error: Exception) -> str:
    """The first non-empty line of an error's text; the name of its class when the text is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
