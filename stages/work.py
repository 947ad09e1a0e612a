"""Work in progress: folders outside of the stages' outs, keyed by everything that determines a result."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.files import disk_errors, file_hash, value_hash, walk_once
from stages.common import Job

_KEY_LENGTH = 16


def code_hash(job: Job, stage: str) -> str:
    """Hash of the code that a stage runs for the job's data set and family, from the file that the stage `code` wrote.

    Raises InputError if the stage `code` has not run.
    """
    path = job.code_file(stage)
    if not path.is_file():
        raise InputError(f"{path}: no such file; run: dvc repro code")
    return file_hash(path)


def listing_hash(folder: Path) -> str:
    """Hash of names, sizes and times of the files below a folder; follows links once, and reads no file content."""
    digest = sha256()
    for place, folders, names in walk_once(folder):
        inside = Path(place).relative_to(folder)
        for name in folders:
            digest.update(_entry(inside / name))
        for name in sorted(names):
            path = Path(place, name)
            status = path.stat() if path.exists() else path.lstat()
            digest.update(_entry(inside / name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def _entry(path: Path, *figures: int) -> bytes:
    """A line that no other entry has; JSON escapes line breaks and bytes that are no text."""
    return f"{json.dumps([str(path), *figures])}\n".encode()


def work_folder(place: Path, determinants: dict[str, Any]) -> Path:
    """The folder of the work that these values determine; created if absent.

    Args:
        place: folder of the stage, as in `data/work/bank/fiq-clip`.
        determinants: everything the result depends on: settings, seeds, hashes of inputs and code.
    """
    folder = place / value_hash(determinants)[:_KEY_LENGTH]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear_work(place: Path) -> None:
    """Removes all work in progress of a stage, including that of former settings; called when its outs are written."""
    shutil.rmtree(place, ignore_errors=True)


def clear_others(work: Path) -> None:
    """Removes a stage's work with other keys; called at the start of the stage.

    The current work is kept after the stage has finished, until the stage runs with another key. If the stage is killed
    before DVC has stored its outs, which takes minutes for a large bank, it repeats no work.

    Args:
        work: folder returned by `work_folder`.
    """
    for other in work.parent.iterdir():
        if other != work:
            clear_work(other)
