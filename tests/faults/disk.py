"""Runs the project on disks that are full at 20 points, makes room, and runs it again. Needs the right to mount."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults.campaign import Skipped, Trial, main
from tests.faults.tiny import Tiny

POINTS = 20
_FULL = ("No space left", "disk is full", "disk image is malformed", "database or disk is full")
_ROOM = 1 << 30
_PAGE = 4096


def trials(tiny: Tiny, place: Path, points: int = POINTS) -> Iterator[Trial]:
    """Yields the trials. The points divide what the run writes into equal parts."""
    fault = "the disk is full, then has room"
    if not may_mount(place / "probe"):
        yield fault, lambda: Skipped("mounting is not allowed here")
        return
    before, after = used(tiny.fresh), used(tiny.whole)
    for point in range(points):
        size = before + (after - before) * (point + 1) // (points + 1)
        yield fault, partial(full, tiny, place / "disk", size)


def full(tiny: Tiny, place: Path, size: int) -> list[str]:
    """Runs the project on a disk of some bytes, until it is full, and again with room."""
    with mounted(place, size) as disk:
        root = tiny.copy(disk / "project")
        found = tiny.not_refused(root, tiny.run(root), *_FULL)
        subprocess.run(["mount", "-o", f"remount,size={_ROOM}", str(disk)], check=True)
        tiny.run(root, ("spn4cir", "doctor"))
        found += tiny.not_whole(root, tiny.run(root))
    return [f"{line} (disk of {size} bytes)" for line in found]


@contextmanager
def mounted(place: Path, size: int, kind: str = "tmpfs") -> Iterator[Path]:
    """A disk in memory of at most some bytes; raises CalledProcessError where mounting is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", f"size={size}", kind, str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


def may_mount(place: Path) -> bool:
    """Whether a disk can be mounted here: it needs the rights of root, which containers often lack."""
    try:
        with mounted(place, _ROOM):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def used(folder: Path) -> int:
    """The bytes of the pages that the files below a folder take on such a disk; a hard link takes none."""
    files = {(status := path.lstat()).st_ino: status.st_size for path in folder.rglob("*") if path.is_file()}
    return sum(-(-size // _PAGE) * _PAGE for size in files.values())


if __name__ == "__main__":
    main("disk", __doc__, trials)
