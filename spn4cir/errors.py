"""The error whose message is for the user, and helpers for its text."""

import re
import unicodedata
from collections.abc import Sequence

# A message that quotes a long value is shortened in the middle, so that the file and the remedy stay.
_LONGEST, _END = 2000, 600
_BREAKS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Where a URL may begin. pathlib makes one slash of two. Each pattern here takes time linear in the text.
_START = re.compile(r"\B//+|\b(?:https?|qdrant(?:\+https?)?):/*", re.IGNORECASE)
# Where a URL ends: at a space, or at the next URL of a list.
_URL_END = re.compile(r"\s|[,;]['\"]?(?=[a-z][a-z0-9+.-]{0,30}://)|\Z", re.IGNORECASE)
# A user, and a password that is no port and contains a space or the beginning of another URL.
_OPEN_PASSWORD = re.compile(r"[^\s/?#@:\[]*:(?!\d{1,5}(?!\w))[^\s'\"@](?:(?![,;:)]\s)[^'\"\n@]){0,100}+@(?:\S*@)?")
_QUERY = re.compile(r"(//[^\s?#]*)(?:([?#])\S+)?")


class InputError(Exception):
    """A bad input, described in one line: what, got, expected, where, what to do.

    The command line and the stages print the message without a traceback and exit with status 1. Line breaks and
    control characters, which names and texts of a data set can contain, are written as escapes. The user and the
    password of a URL are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __str__(self) -> str:
        return _one_line(str(self.args[0]))


def _one_line(message: str) -> str:
    message = _without_users(message)
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST - _END]} ... {message[-_END:]}"
    return escaped(message)


def escaped(text: str) -> str:
    r"""The text with its line breaks, control characters and bytes that are not UTF-8 as escapes: it is one line.

    Examples:
        >>> print(escaped("a\nb.png"))
        a\nb.png
    """
    if text.isprintable():
        return text
    return "".join(ascii(each)[1:-1] if unicodedata.category(each) in _BREAKS else each for each in text)


def masked_url(text: str) -> str:
    """Returns a text, such as a URL as it was given, without what can be a secret: a user, a password, a query.

    Examples:
        >>> masked_url("http://user:password@127.0.0.1/v1?key=secret")
        'http://***@127.0.0.1/v1?***'
    """
    return _QUERY.sub(lambda url: f"{url[1]}{url[2]}***" if url[2] else url[1], _without_users(text))


def _without_users(text: str) -> str:
    """Returns a text with *** instead of the user and the password of each URL.

    They end at the last @ of the URL, as they can contain an @ or a / that is not quoted.
    """
    parts, done, last = [], 0, text.rfind("@")
    while done <= last and (start := _START.search(text, done)):
        first = start.end()
        end = _URL_END.search(text, first).start()  # type: ignore[union-attr]  # \Z always matches
        after = text.rfind("@", first, end) + 1
        if not after and "@" in text[end : end + 100] and (found := _OPEN_PASSWORD.match(text, first)):
            after = found.end()
        is_masked = after > first + 1 and not _is_in_path(start[0].lower(), text[first : after - 1])
        parts.append(f"{text[done:first]}***@" if is_masked else text[done : max(after, end)])
        done = after if is_masked else max(after, end)
    return "".join((*parts, text[done:]))


def _is_in_path(start: str, before: str) -> bool:
    """Whether the @ of a URL is in its path: a host or a local folder is before it, and no password can be."""
    host, slash, _ = before.partition("/")
    return bool(slash) and ":" not in before and ("." in host or host == "localhost" or start in {"qdrant:/", "///"})


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


def os_error_line(error: OSError) -> str:
    """The line that is printed for a file that cannot be read or written, or for a process that was lost."""
    reason = error.strerror or error
    if isinstance(error, ConnectionError):
        lost = "a process that decodes images or trains, or a server, has ended"
        return str(InputError(f"{lost} ({reason}); free memory if the machine ran out of it, and run it again"))
    return str(InputError(f"{error.filename or 'input or output'}: {reason}; check the path and the disk"))


def memory_error_line(error: MemoryError) -> str:
    """The line that is printed when there is no memory left, in this process or in one that decodes images."""
    reason = str(error).strip().splitlines()[-1:] or ["an array could not be allocated"]
    return str(InputError(f"out of memory ({reason[0]}); free some, or set a smaller machine.workers or batch_size"))
