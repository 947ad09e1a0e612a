"""DVC's lists of the paths in use, `.dvc/tmp/rwlock` and `.dvc/tmp/exps/rwlock`, after a process was killed.

DVC writes such a list in place, before and after each stage, while it holds a lock on `rwlock.lock`. The system
releases that lock when its process ends, but a list that was half written stays, and DVC then refuses to run.
docs/reliability.md describes the fault.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from spn4cir.json_files import write_json
from spn4cir.projects.leftovers import Leftover, RunningProcess, is_gone

LISTS = (Path(".dvc", "tmp", "rwlock"), Path(".dvc", "tmp", "exps", "rwlock"))
_LOCKS = (Path(".dvc", "tmp", "lock"), *(path.with_name("rwlock.lock") for path in LISTS))
_TRIES, _PAUSE = 20, 0.05
_PROGRAM = "dvc"


def find_locks(workspace: Path, running: list[RunningProcess]) -> Iterator[Leftover]:
    """The faults of DVC's locks and lists of paths in use.

    Args:
        workspace: the folder that contains `.dvc`.
        running: the processes that use the workspace.
    """
    hard_links = [path for path in _LOCKS if _is_hard_link_lock(workspace / path)]
    for path in hard_links if not running else ():
        yield Leftover(
            path,
            "is a lock of core.hardlink_lock, which does not name its process; no DVC runs here on this machine",
            "if none runs here on another machine, remove it",
        )
    for path in LISTS:
        if path.with_name("rwlock.lock") not in hard_links and (workspace / path).is_file():
            yield from _list_faults(workspace, path, running)


def _list_faults(workspace: Path, path: Path, running: list[RunningProcess]) -> Iterator[Leftover]:
    place = workspace / path
    with _guarded(place) as is_ours:
        if not is_ours:
            return  # DVC is writing it
        entries = _read(place)
        dead = {} if entries is None else _dead(entries, place.stat().st_mtime)
    if entries is None and running:
        yield Leftover(
            path, f"cannot be read by DVC, but {running[0]} runs here", "wait for its end and run doctor again"
        )
    elif entries is None:
        yield Leftover(
            path,
            "cannot be read by DVC: a process was killed while it wrote it",
            "removed",
            lambda: _remove_broken(place),
        )
    for pid, command in dead.items():
        fault = f"names process {pid} ({command}), which has ended"
        yield Leftover(path, fault, "entries removed", partial(_remove_entries, place, pid))


@contextmanager
def _guarded(place: Path) -> Iterator[bool]:
    """Holds the lock under which DVC changes the list. Yields False if DVC keeps it."""
    guard = place.with_name("rwlock.lock")
    if not guard.is_file():  # it is free; to create it would stop a DVC with core.hardlink_lock
        yield True
        return
    with guard.open("r+") as stream:  # closing the file releases the lock
        yield _lock(stream.fileno())


def _lock(descriptor: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False


def _is_hard_link_lock(path: Path) -> bool:
    """Whether a lock is one of DVC's `core.hardlink_lock`: it contains the path of another name of the file."""
    return path.is_file() and path.read_text(errors="replace").strip().endswith(".lock")


def _read(place: Path) -> dict[str, Any] | None:
    """The list; None if it is not one of DVC's."""
    try:
        entries = json.loads(place.read_text(encoding="utf-8"))
        is_valid = all(isinstance(info["pid"], int) for info in _processes(entries))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return dict(entries) if is_valid else None


def _processes(entries: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The processes that a list names."""
    yield from entries.get("write", {}).values()
    for readers in entries.get("read", {}).values():
        yield from readers


def _dead(entries: dict[str, Any], written: float) -> dict[int, str]:
    """The commands of the processes of a list that have ended, by process id."""
    named = {info["pid"]: str(info.get("cmd", "")) for info in _processes(entries)}
    return {pid: Path(command).name for pid, command in named.items() if is_gone(pid, written, _PROGRAM)}


def _remove_broken(place: Path) -> None:
    with _guarded(place) as is_ours:
        if is_ours and place.is_file() and _read(place) is None:
            place.unlink()


def _remove_entries(place: Path, pid: int) -> None:
    with _guarded(place) as is_ours:
        entries = _read(place) if is_ours and place.is_file() else None
        if entries is None:
            return
        writers = {path: info for path, info in entries.get("write", {}).items() if info["pid"] != pid}
        readers = {
            path: left
            for path, infos in entries.get("read", {}).items()
            if (left := [info for info in infos if info["pid"] != pid])
        }
        write_json(place, {"write": writers, "read": readers})
