"""The one error that a user is meant to read."""


class InputError(Exception):
    """A bad input, described in one line: what, got, expected, where, what to do.

    The command line and the stages print the message without a traceback and exit with status 1.
    """
