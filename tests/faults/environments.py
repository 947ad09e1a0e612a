"""Runs the project in odd places and environments, after changes of its data, and beside other runs."""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.faults.campaign import Skipped, Trial, fresh_folder, main
from tests.faults.data_changes import CHANGES
from tests.faults.project import ENVIRONMENT
from tests.faults.sharing import SHARED
from tests.faults.tiny import TINY, Tiny

# Returns what is wrong, from the project and a folder for copies. Raises Skipped where it cannot be tried.
Check = Callable[[Tiny, Path], list[str]]
# The stand-in for `python` passes all three streams to a warm process, so it needs them open.
COLD = ENVIRONMENT["PATH"]
_LONGEST = 240
_TEN_YEARS = 10 * 365 * 86400
_WITHOUT_LINKS = """
import errno, os
def link(*_, **__):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
os.link = link
"""
# The clock of each process is set back by an hour when the process has run for a second.
_CLOCK_BACK = """
import time
now, start = time.time, time.monotonic()
def set_back():
    return now() - 3600 * (time.monotonic() - start > 1)
time.time = set_back
time.time_ns = lambda: int(set_back() * 1e9)
"""


def variables(**values: str) -> Check:
    """A run with variables of the environment."""

    def check(tiny: Tiny, place: Path) -> list[str]:
        root = tiny.copy(place / "project")
        return tiny.not_whole(root, tiny.run(root, **values))

    return check


def shell(line: str, **values: str) -> Check:
    """A run by a line for `sh`, in which "$@" is the command, with variables of the environment."""

    def check(tiny: Tiny, place: Path) -> list[str]:
        root = tiny.copy(place / "project")
        return tiny.not_whole(root, tiny.run(root, ("sh", "-c", line, "sh", *TINY), **values))

    return check


def named(name: str) -> Check:
    """A run in a folder of this name."""

    def check(tiny: Tiny, place: Path) -> list[str]:
        root = tiny.copy(place / name)
        return tiny.not_whole(root, tiny.run(root))

    return check


def long_path(tiny: Tiny, place: Path) -> list[str]:
    """A run in a folder whose path has 240 characters, but whose files stay within the system's limits."""
    room = _LONGEST - len(str(place)) - 1
    return named("/".join(["d" * 40] * (room // 41) + ["d" * max(1, room % 41)]))(tiny, place)


def turkish(tiny: Tiny, place: Path) -> list[str]:
    """A run in the Turkish locale, in which the lower case of I is not i."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout
    name = next((line for line in known.splitlines() if line.startswith("tr_TR")), None)
    if name is None:
        raise Skipped("the locale tr_TR is not installed")
    return variables(LC_ALL=name)(tiny, place)


def reader_leaves(tiny: Tiny, place: Path) -> list[str]:
    """A run whose output is read up to the first line, and a second one."""
    root = tiny.copy(place / "project")
    run = tiny.run(root, ("sh", "-c", '"$@" | head -n 1', "sh", *TINY))
    found = ["printed a traceback: " + " / ".join(run.lines)] if "Traceback" in "\n".join(run.lines) else []
    tiny.run(root, ("spn4cir", "doctor"))
    return found + tiny.not_whole(root, tiny.run(root))


def future(tiny: Tiny, place: Path) -> list[str]:
    """A run on files that were written later than now, as after the clock was set back, and a run on its outs."""
    root = tiny.copy(place / "project")
    for path in [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]:
        written = path.stat().st_mtime + _TEN_YEARS
        os.utime(path, (written, written))
    found = tiny.not_whole(root, tiny.run(root))
    again = tiny.run(root)
    return found + tiny.not_whole(root, again) + [f"runs {stage} again" for stage in again.starts]


def clock_set_back(tiny: Tiny, place: Path) -> list[str]:
    """A run whose clock is set back meanwhile, and a run on its outs; each stage starts in a Python of its own."""
    root = tiny.copy(place / "project")
    clock = tiny.beginning_with(_CLOCK_BACK, place / "site")
    found = tiny.not_whole(root, tiny.run(root, **clock, PATH=COLD))
    again = tiny.run(root, **clock, PATH=COLD)
    return found + tiny.not_whole(root, again) + [f"runs {stage} again" for stage in again.starts]


def linked_cache(kind: str) -> Check:
    """A run with a type of links between cache and workspace."""

    def check(tiny: Tiny, place: Path) -> list[str]:
        root = tiny.copy(place / "project")
        tiny.run(root, ("dvc", "config", "cache.type", kind))
        found = tiny.not_whole(root, tiny.run(root))
        return found or [f"runs {stage} again" for stage in tiny.run(root).starts]

    return check


def without_hard_links(tiny: Tiny, place: Path) -> list[str]:
    """A run in which `os.link` fails, as on exFAT and some network disks; each stage starts in a Python of its own."""
    root = tiny.copy(place / "project")
    return tiny.not_whole(root, tiny.run(root, **tiny.beginning_with(_WITHOUT_LINKS, place / "site"), PATH=COLD))


TABLE: dict[str, Check] = {
    "`LC_ALL=C`": variables(LC_ALL="C", LANG="C"),
    "`LC_ALL=C`, without UTF-8 mode": variables(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    "the Turkish locale": turkish,
    "`TZ=Pacific/Kiritimati`": variables(TZ="Pacific/Kiritimati"),
    "`NO_COLOR=1`": variables(NO_COLOR="1"),
    "`TERM=dumb`": variables(TERM="dumb"),
    "`HOME` that cannot be written": variables(HOME="/sys/home"),
    "no `HOME`": shell('unset HOME; exec "$@"'),
    "`umask 077`": shell('umask 077; exec "$@"'),
    "standard output closed": shell('exec "$@" >&-', PATH=COLD),
    "standard input closed": shell('exec "$@" <&-', PATH=COLD),
    "`dvc repro | head -n 1`, and again": reader_leaves,
    "a path with spaces": named("a project of mine"),
    "a path with quotes": named('it\'s a "project"'),
    "a path with other scripts": named("größe-图像-Ωß"),
    "a path with `$`, `%`, `#` and `;`": named("a$HOME%s#1;b"),
    "a path of 240 characters": long_path,
    "files from the future": future,
    "the clock set back in a run": clock_set_back,
    "`cache.type: copy`": linked_cache("copy"),
    "`cache.type: hardlink`": linked_cache("hardlink"),
    "`cache.type: symlink`": linked_cache("symlink"),
    "`cache.type: reflink,copy`": linked_cache("reflink,copy"),
    "a file system without hard links": without_hard_links,
    **CHANGES,
    **SHARED,
}


def trials(tiny: Tiny, place: Path) -> Iterator[Trial]:
    """Yields the trials."""
    for name, check in TABLE.items():
        yield name, partial(tried, check, tiny, place / "trial")


def tried(check: Check, tiny: Tiny, place: Path) -> list[str] | Skipped:
    """The result of a check in a new folder; an error of the check itself is a fault."""
    fresh_folder(place).mkdir()
    try:
        return check(tiny, place)
    except Skipped as skipped:
        return skipped
    except (OSError, subprocess.SubprocessError) as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        fresh_folder(place)


if __name__ == "__main__":
    main("environments", __doc__, trials)
