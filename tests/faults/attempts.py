"""Gives a command or a reader one bad input, and checks the line, the status, the files, time and memory."""

import os
import re
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.errors import InputError
from tests.faults.limits import limit_memory, seconds_of_work, time_limit
from tests.faults.messages import wrong
from tests.faults.places import Place

# What `serve` prints where a server would begin to listen.
SERVES = "the server listens"
# The password in every address that has one; no command prints it.
PASSWORD = "planted-7d1e"
SECONDS = 10
MEGABYTES = 1000
# Address space beyond what the process already has: a bomb ends in MemoryError instead of filling the machine.
_ADDRESSES = 3 << 30
_SHOWN = 2000


class Case(NamedTuple):
    """One bad input, or one that looks bad and is valid.

    Attributes:
        kind: kind of the input; the counts are by kind.
        what: what is bad.
        make: makes the input in a place and returns the words of a command, or a reader to call.
        words: pattern that the message contains; for a valid input, the output.
        status: exit status; 0 for a valid input.
    """

    kind: str
    what: str
    make: Callable[[Place], "Sequence[object] | Callable[[], object]"]
    words: str
    status: int = 1

    @property
    def name(self) -> str:
        """Name of the case, for a test and a report."""
        return f"{self.kind}: {self.what}"


class _Ended(NamedTuple):
    status: int
    output: str
    errors: str
    fault: str


def attempt(case: Case, place: Place) -> str:
    """Runs a case in a place. Returns what did not hold; empty if everything did."""
    with _inside(place.work):
        asked = case.make(place)
        work, data = _listing(place.work), _listing(place.data)
        started = seconds_of_work()
        memory = _Memory()
        ended = _ended(asked)
        seconds, megabytes = seconds_of_work() - started, memory.grown()
        written, changed = _listing(place.work) != work, _changed(data, _listing(place.data))
    if seconds > SECONDS:
        return f"took {seconds:.0f} s"
    if megabytes > MEGABYTES:
        return f"took {megabytes:.0f} MB"
    if ended.fault:
        return ended.fault
    if PASSWORD in ended.output + ended.errors:
        return "printed a password"
    if ended.status != case.status:
        return f"ended with status {ended.status}, expected {case.status}: {ended.output[-300:]}{ended.errors[-300:]}"
    if case.status == 0:
        if lost := [name for name in changed if name in data and not data[name].is_folder]:
            return f"changed its inputs: {', '.join(lost)[:300]}"
        found = re.search(case.words, ended.output + ended.errors)
        return "" if found else f"the output lacks '{case.words}': {ended.output[-300:]}{ended.errors[-300:]}"
    if changed:
        return f"changed the folder of its inputs: {', '.join(changed)[:300]}"
    return "wrote or removed files" if written else wrong(ended.errors, case.words, case.status, place.work.parent)


def _ended(asked: "Sequence[object] | Callable[[], object]") -> _Ended:
    """Runs a command or a reader, with limits of time and memory; a reader's error is printed as a command's."""
    with _low_level_errors() as below, warnings.catch_warnings(record=True) as warned, _limits():
        try:
            ended = _called(asked) if callable(asked) else _commanded([str(word) for word in asked])
        except TimeoutError:
            return _Ended(-1, "", "", f"did not end in {SECONDS} s")
        except MemoryError:
            return _Ended(-1, "", "", "ran out of memory")
        except Exception as error:
            return _Ended(-1, "", "", f"raised {type(error).__name__}: {str(error)[:300]}")
    said = [str(each.message) for each in warned if not _is_unseen(each)]
    return ended._replace(errors="\n".join([*filter(None, [ended.errors.rstrip("\n"), below()]), *said]))


def _is_unseen(warned: warnings.WarningMessage) -> bool:
    """Whether Python hides a warning, or `spn4cir.images.decoding` does, whose filter pytest resets."""
    return issubclass(warned.category, DeprecationWarning) or Path(warned.filename).parent.name == "PIL"


def _commanded(words: list[str]) -> _Ended:
    with patch("spn4cir.serving.server.run", _serve):
        result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return _Ended(result.exit_code, result.stdout, result.stderr, "")


def _serve(*_: object) -> None:
    """Replaces a server, which would not end."""
    print(SERVES)


def _called(reader: Callable[[], object]) -> _Ended:
    try:
        return _Ended(0, str(reader())[:_SHOWN], "", "")
    except InputError as error:
        return _Ended(1, "", f"error: {error}", "")


@contextmanager
def _limits() -> Iterator[None]:
    """Limits the address space, and interrupts what takes too long."""

    def interrupt() -> None:
        raise TimeoutError

    before = limit_memory(_ADDRESSES)
    try:
        with time_limit(SECONDS, interrupt):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class _Memory:
    """The growth of the resident memory of this process, at its peak."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        self.start = self._read("VmRSS")

    def grown(self) -> float:
        """Returns the growth in MB."""
        return (self._read("VmHWM") - self.start) / 1e3

    @staticmethod
    def _read(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1])


@contextmanager
def _low_level_errors() -> Iterator[Callable[[], str]]:
    """Collects what libraries of C write to the stream of errors."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as stream:
        os.dup2(stream.fileno(), 2)
        text = ""

        def read() -> str:
            return text.strip()

        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            stream.seek(0)
            text = stream.read(10_000).decode(errors="replace")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class _Entry(NamedTuple):
    """What a change, a replacement or a removal of a file or a folder shows in."""

    is_folder: bool
    number: int
    mode: int
    size: int
    written: int


def _listing(folder: Path) -> dict[str, _Entry]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        entry = _Entry(path.is_dir(), status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        found[str(path.relative_to(folder))] = entry
    return found


def _changed(before: Mapping[str, _Entry], after: Mapping[str, _Entry]) -> list[str]:
    """Returns the names of what was added, removed, replaced or written."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@contextmanager
def fresh_place(templates: Path) -> Iterator[Place]:
    """Makes an empty place for one case, and removes it."""
    folder = Path(tempfile.mkdtemp(dir=templates.parent))
    (folder / "work").mkdir()
    (folder / "data").mkdir()
    try:
        yield Place(templates, folder / "data", folder / "work")
    finally:
        shutil.rmtree(folder)
