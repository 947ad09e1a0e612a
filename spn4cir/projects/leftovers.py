"""What a killed process leaves in a workspace, and the processes that use the workspace."""

import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.readable import real_path

try:
    import psutil
except ImportError:  # DVC installs it
    psutil = None

# Clocks of files and of processes differ by less.
_MARGIN = 2.0
_SHOWN = 60
# The cure of a leftover that other clones may use: their processes are not known here.
OUTSIDE = "a link leads out of the project: remove it yourself, if no other project uses it"
# DVC sets this variable for the command of a stage.
_STARTED_BY_DVC = "DVC_STAGE"
# The modules of stages, in dvc.yaml and demo/dvc.yaml.
_STAGES = ("stages.", "demo.")


@dataclass(frozen=True)
class Leftover:
    """Something that a killed process left in a workspace.

    Attributes:
        path: its path in the workspace.
        fault: what is wrong with it.
        cure: what `mend` does, as in `removed`; without `mend`, what the user can do.
        mend: mends it; None if this must not be done now, or not without the user's word.
    """

    path: Path
    fault: str
    cure: str
    mend: Callable[[], None] | None = None


@dataclass(frozen=True)
class RunningProcess:
    """A running process that uses a workspace.

    Attributes:
        pid: its process id.
        command: its command line, without the interpreter.
        is_orphan: whether it is a stage that DVC started, and that DVC has ended.
    """

    pid: int
    command: str
    is_orphan: bool

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def require_psutil() -> None:
    """Raises InputError if the package psutil, which looks up processes, is not installed."""
    if psutil is None:
        raise InputError(f"the package psutil is not installed; run {install_command('dvc')}")


def is_gone(pid: int, written: float, program: str) -> bool:
    """Whether the process that put its id into a file, or into a file's name, has ended.

    The id can belong to another process since. It does if that process started after the file was last written and is
    another program. The start alone is not enough: it moves when the clock is set. A process that cannot be examined
    counts as running.

    Args:
        pid: the process id.
        written: when the file was last changed, in seconds of the epoch.
        program: a word of the command line of the process that wrote the file.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        is_later = process.create_time() > written + _MARGIN
        return is_later and program not in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True
    except psutil.Error:
        return False


def running_processes(workspace: Path) -> list[RunningProcess]:
    """The processes of DVC and of stages that run in a workspace or below it."""
    root = real_path(workspace)
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        stage = _stage_command(words)
        command = stage or _dvc_command(words)
        if command and process.info["status"] != psutil.STATUS_ZOMBIE and _is_in(process, root):
            if stage.startswith("demo.") and not _is_of_dvc(process):
                continue  # a program that runs DVC itself
            found.append(RunningProcess(process.info["pid"], command[:_SHOWN], bool(stage) and _is_orphan(process)))
    return found


def _dvc_command(words: list[str]) -> str:
    """`dvc repro` of the words `python /bin/dvc repro` or `python -m dvc repro`; empty if they do not start DVC."""
    for place, word in enumerate(words[:3]):
        if Path(word).name == "dvc":
            return " ".join(["dvc", *words[place + 1 :]])
    return ""


def _stage_command(words: list[str]) -> str:
    """`stages.train fiq clip` of the words `python -m stages.train fiq clip`; empty if they do not start a stage."""
    starts = [place for place, pair in enumerate(pairwise(words)) if pair[0] == "-m" and pair[1].startswith(_STAGES)]
    return " ".join(words[starts[0] + 1 :]) if starts else ""


def _is_in(process: "psutil.Process", root: Path) -> bool:
    try:
        folder = Path(process.cwd())
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's: it can work here if others may write here
        return bool((root / ".dvc").stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return root == folder or root in folder.parents


def _is_orphan(process: "psutil.Process") -> bool:
    try:
        above = [parent.cmdline() for parent in process.parents()]
    except psutil.Error:
        return False
    # A process below another one of a stage is its worker, which ends with it.
    return _is_of_dvc(process) and not any(_dvc_command(words) or _stage_command(words) for words in above)


def _is_of_dvc(process: "psutil.Process") -> bool:
    """Whether DVC has started the process as a stage."""
    try:
        return _STARTED_BY_DVC in process.environ()
    except psutil.Error:
        return False


def is_in(path: Path, workspace: Path) -> bool:
    """Whether a path is in the workspace when links in it are followed, except its own last part."""
    return real_path(path.parent).is_relative_to(real_path(workspace))


def age_of(path: Path) -> float:
    """Seconds since a file, link or folder was last written or renamed."""
    status = path.lstat()
    return time.time() - max(status.st_mtime, status.st_ctime)
