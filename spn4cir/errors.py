"""The one error that a user is meant to read, and what its messages are made of."""

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
    """The first line of a library's error, whose text may go over several lines; its kind where there is no text."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
