"""Prepares standard streams, so that no print is an error.

What is printed on a stream that the caller closed, e.g. by `>&-`, is lost. What a stream cannot encode is escaped.
"""

import fcntl
import io
import os
import sys

_STREAMS = {"stdout": 1, "stderr": 2}


def open_streams() -> None:
    """Replaces a standard output or error that is closed, or open only for reading, by the null device.

    DVC with a closed output starts its stages with one that is open only for reading. Characters that an output cannot
    encode, such as those of names that are not UTF-8, are written as escapes. The command line and the stages call this
    function when they start.
    """
    closed = [name for name in _STREAMS if getattr(sys, name) is None]
    for name, number in _STREAMS.items():
        # Python did not open a stream that was closed at its start; another file may have its number since.
        if _is_closed(number) or (name not in closed and _is_read_only(number)):
            _open_null(number)
    for name in closed:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
    for name in _STREAMS:
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _escaping(stream))


def _escaping(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Returns the stream, or another one for its file, that escapes what it cannot encode."""
    try:
        stream.reconfigure(errors="backslashreplace")
        return stream
    except OSError:  # its number has got another file since Python started, in which no position can be asked for
        return open(stream.fileno(), "w", 1, encoding=stream.encoding, errors="backslashreplace", closefd=False)


def _open_null(number: int) -> None:
    """Opens the null device under this number, also for processes that this one starts."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null == number:
        os.set_inheritable(null, True)
        return
    os.dup2(null, number)
    os.close(null)


def _is_closed(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return True
    return False


def _is_read_only(number: int) -> bool:
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
