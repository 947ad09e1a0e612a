"""Two runs at once, a shared cache, a cache on another disk, read-only data, and DVC's queue with killed workers."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.faults.campaign import Skipped
from tests.faults.disk import may_mount, mounted
from tests.faults.project import ENVIRONMENT, Run, processes_in, wait_until
from tests.faults.tiny import TINY, Tiny
from tests.scale.names import DATASET

_ROOM = 1 << 30
_BUSY = ("lock", "busy", "is being used", "Unable to acquire")
_AUTHOR = ("-c", "user.name=faults", "-c", "user.email=faults@example.org")


def two_in_one_clone(tiny: Tiny, place: Path) -> list[str]:
    """Two `dvc repro` at once in a clone: one ends well, the other too or with a line that says what is in use."""
    root = tiny.copy(place / "project")
    runs = [Run(root, tiny.environment, TINY) for _ in range(2)]
    status = [run.end() for run in runs]
    found = [] if 0 in status else ["no run ended well: " + " // ".join(" / ".join(run.lines[-4:]) for run in runs)]
    for run in runs:
        if run.process.returncode:
            found += tiny.not_refused(root, run, *_BUSY)
    return found + tiny.not_whole(root, tiny.run(root))


def two_clones(tiny: Tiny, place: Path) -> list[str]:
    """Two clones with one cache run at once."""
    roots = [tiny.copy(place / name) for name in ("one", "two")]
    for root in roots:
        tiny.run(root, ("dvc", "cache", "dir", str(place / "cache")))
    runs = [Run(root, tiny.environment, TINY) for root in roots]
    for run in runs:
        run.end()
    return [line for root, run in zip(roots, runs, strict=True) for line in tiny.not_whole(root, run)]


def cache_elsewhere(tiny: Tiny, place: Path) -> list[str]:
    """The cache is on another file system, where hard links from the workspace are not possible."""
    if not may_mount(place / "probe"):
        raise Skipped("mounting is not allowed here")
    found = []
    with mounted(place / "disk", _ROOM) as disk:
        for kind in ("reflink,copy", "hardlink,copy", "symlink"):
            root = tiny.copy(place / kind.replace(",", "-"))
            tiny.run(root, ("dvc", "cache", "dir", str(disk / kind)))
            tiny.run(root, ("dvc", "config", "cache.type", kind))
            found += [f"{kind}: {line}" for line in tiny.not_whole(root, tiny.run(root))]
    return found


def read_only_data(tiny: Tiny, place: Path) -> list[str]:
    """The data are on a disk that is mounted read-only."""
    if not may_mount(place / "probe"):
        raise Skipped("mounting is not allowed here")
    root = tiny.copy(place / "project")
    data = root / "data" / "raw" / DATASET
    with mounted(place / "disk", _ROOM) as disk:
        shutil.copytree(data, disk / "data")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        if data.is_symlink():
            data.unlink()
        else:
            shutil.rmtree(data)
        data.symlink_to(disk / "data")
        return tiny.not_whole(root, tiny.run(root))


def two_users(tiny: Tiny, place: Path) -> list[str]:
    """A user writes a cache that is shared with the group, and another one runs on it."""
    if os.geteuid() != 0 or shutil.which("runuser") is None:
        raise Skipped("needs root and runuser")
    other = ("runuser", "-u", "nobody", "--", "env", f"PATH={ENVIRONMENT['PATH']}", f"HOME={place / 'home'}", "CI=1")
    for folder in (place.parent, place):
        folder.chmod(0o755)
    roots = [tiny.copy(place / name) for name in ("mine", "theirs")]
    for folder in (place / "cache", place / "home"):
        folder.mkdir()
        shutil.chown(folder, group="nogroup")  # the group of both users' files in the cache
        folder.chmod(0o2777)
    for root in roots:
        tiny.run(root, ("dvc", "cache", "dir", str(place / "cache")))
        tiny.run(root, ("dvc", "config", "cache.shared", "group"))
    subprocess.run(["chown", "-R", "nobody", str(roots[1])], check=True)
    if subprocess.run([*other, "dvc", "status"], cwd=roots[1], capture_output=True).returncode:
        raise Skipped("another user cannot run this Python, or read the folder")
    found = tiny.not_whole(roots[0], tiny.run(roots[0], ("sh", "-c", 'umask 002; exec "$@"', "sh", *TINY)))
    return found + tiny.not_whole(roots[1], tiny.run(roots[1], (*other, *TINY)))


def queue_killed(tiny: Tiny, place: Path) -> list[str]:
    """Two workers of `dvc queue` are killed; the queue can be read and emptied, and the project runs."""
    root = tiny.copy(place / "project", finished=True)
    for command in (("add", "--all"), (*_AUTHOR, "commit", "--quiet", "--message", "finished")):
        subprocess.run(["git", *command], cwd=root, env={**tiny.environment}, check=True, capture_output=True)
    for lr in ("1.0e-5", "2.0e-5"):
        key = f"train.{DATASET}.zs.lr={lr}"
        tiny.run(root, ("dvc", "exp", "run", "--queue", "-S", key, TINY[-1]))
    tiny.run(root, ("dvc", "queue", "start", "--jobs", "2"))
    wait_until(lambda: len(processes_in(root)) >= 2, 60)
    time.sleep(2)
    killed = processes_in(root)
    for process in killed:
        process.kill()
    found = [] if killed else ["no worker was found"]
    tiny.run(root, ("spn4cir", "doctor"))
    for command in (("dvc", "queue", "status"), ("dvc", "queue", "remove", "--all"), ("dvc", "status", TINY[-1])):
        run = tiny.run(root, command)
        if run.process.returncode:
            found.append(f"{' '.join(command)}: {' / '.join(run.lines[-6:])}")
    return found + tiny.not_whole(root, tiny.run(root))


SHARED = {
    "two `dvc repro` at once in a clone": two_in_one_clone,
    "two clones with one cache at once": two_clones,
    "two users with one cache": two_users,
    "the cache on another file system": cache_elsewhere,
    "read-only data": read_only_data,
    "`dvc queue`, two workers killed": queue_killed,
}
