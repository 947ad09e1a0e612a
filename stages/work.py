"""Work in progress: outside the stages' outs, keyed by everything that determines a result."""

import shutil
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.files import disk_errors, file_hash, value_hash, walk_once
from stages.common import Job

_KEY_LENGTH = 16


def code_hash(job: Job, stage: str) -> str:
    """Hash of the code that a stage runs for the job's data set and family, as the stage `code` wrote it down.

    Raises InputError where the stage `code` has not run.
    """
    path = job.code_file(stage)
    if not path.is_file():
        raise InputError(f"{path}: no such file; type: dvc repro code")
    return file_hash(path)


def listing_hash(folder: Path) -> str:
    """Hash of names, sizes and times of the files below a folder, links followed once: a large data set is not read."""
    entries: list[list[object]] = []
    for place, folders, names in walk_once(folder):
        inside = Path(place).relative_to(folder)
        entries.extend([str(inside / name)] for name in folders)
        for name in sorted(names):
            path = Path(place, name)
            status = path.stat() if path.exists() else path.lstat()
            entries.append([str(inside / name), status.st_size, status.st_mtime_ns])
    return value_hash(entries)


def work_folder(place: Path, determinants: dict[str, Any]) -> Path:
    """The folder for the work that these values determine; made if absent.

    Args:
        place: the stage's own folder, as in `data/work/bank/fiq-clip`.
        determinants: settings, seeds, hashes of inputs and code: everything that the result depends on.
    """
    folder = place / value_hash(determinants)[:_KEY_LENGTH]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear_work(place: Path) -> None:
    """Removes a stage's work in progress, that of former settings too; called once its outs are in place."""
    shutil.rmtree(place, ignore_errors=True)


def clear_others(work: Path) -> None:
    """Removes a stage's work of other keys; called at its start.

    Its own work is kept even when the stage is done, until it runs with another key: killed after its last line but
    before DVC has stored its outs, which takes minutes for a large bank, it then has nothing to do again.

    Args:
        work: what `work_folder` returned.
    """
    for other in work.parent.iterdir():
        if other != work:
            clear_work(other)
