"""Finds what a crash left in a DVC workspace, and mends what nothing uses."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spn4cir.errors import InputError, escaped
from spn4cir.projects.dvc_lock_files import find_cut_locks
from spn4cir.projects.dvc_locks import find_locks
from spn4cir.projects.leftovers import Leftover, RunningProcess, require_psutil, running_processes
from spn4cir.projects.unclaimed import find_unclaimed
from spn4cir.projects.unfinished import find_unfinished


@dataclass(frozen=True)
class Finding:
    """A line about something that a killed process left, and whether it remains.

    Line breaks and control characters in a name are written as escapes.
    """

    line: str
    remains: bool


def find_workspace(start: Path) -> Path:
    """The nearest folder at or above `start` that contains `.dvc`. Raises InputError if there is none."""
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    raise InputError(f"{start}: is in no DVC workspace (no folder .dvc here or above); run doctor in the project")


def examine(workspace: Path, dry_run: bool, may_remove_work: bool) -> Iterator[Finding]:
    """Mends what killed processes left, one after the other.

    Args:
        workspace: the folder that contains `.dvc`.
        dry_run: only report it.
        may_remove_work: also remove work in progress that no settings claim.

    Raises:
        InputError: psutil is not installed.
    """
    require_psutil()
    running = running_processes(workspace)
    yield from map(_in_one_line, _orphans(running))
    for each in _leftovers(workspace, running, may_remove_work):
        yield _in_one_line(_treat(each, dry_run))


def _in_one_line(finding: Finding) -> Finding:
    return Finding(escaped(finding.line), finding.remains)


def _leftovers(workspace: Path, running: list[RunningProcess], may_remove_work: bool) -> Iterator[Leftover]:
    yield from find_locks(workspace, running)
    yield from find_cut_locks(workspace, running)
    yield from find_unfinished(workspace, running)
    yield from find_unclaimed(workspace, running, may_remove_work)


def _orphans(running: list[RunningProcess]) -> Iterator[Finding]:
    """Stages that still run although the DVC that started them has ended: a second one would write the same files."""
    for each in running:
        if each.is_orphan:
            yield Finding(f"{each}: runs without DVC; wait for its end, or end it with kill {each.pid}", True)


def _treat(each: Leftover, dry_run: bool) -> Finding:
    said = f"{each.path}: {each.fault}"
    if each.mend is None:
        return Finding(f"{said}; {each.cure}", True)
    if dry_run:
        return Finding(f"{said}; run without --dry-run ({each.cure})", True)
    try:
        each.mend()
    except OSError as error:
        return Finding(f"{said}; could not be {each.cure} ({error.strerror})", True)
    except InputError as error:
        return Finding(f"{said}; could not be {each.cure} ({error})", True)
    return Finding(f"{said}; {each.cure}", False)
