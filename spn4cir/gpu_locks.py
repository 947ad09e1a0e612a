"""Locks on GPUs, so that several runs of one user on one machine each use GPUs of their own.

A lock is a POSIX record lock on a file in the user's cache folder. The kernel releases it when the process ends in any
way. Processes that are forked, such as those that decode images, do not inherit it; a lock of `flock` would last until
the last of them ends.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from spn4cir.errors import InputError

# Seconds between two attempts to take a GPU.
_INTERVAL = 2.0
# Every container has a host name of its own, and machines that start from one image share /etc/machine-id.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The open lock files of this process, by GPU. Closing one would release its lock.
_held: dict[str, TextIO] = {}


def take_gpus(gpus: Mapping[int, str], count: int) -> list[int]:
    """Takes free GPUs until this process ends, and waits while too few are free.

    It takes all of them at once or none, so that two runs never wait for each other. While it waits, it prints once
    which processes use the GPUs. GPUs that this process has taken before count as free.

    Args:
        gpus: an identifier of each GPU that may be taken, by its number; equal for all processes of the machine, also
            in its containers.
        count: number of GPUs to take.

    Returns:
        The numbers of the GPUs.

    Raises:
        InputError: there are fewer GPUs than `count`, two numbers are one GPU, or the file system of the cache folder
            has no locks.
    """
    for gpu, uses in Counter(gpus.values()).items():
        if uses > 1:
            same = [number for number in gpus if gpus[number] == gpu]
            raise InputError(f"machine.devices: {same} are one GPU, {gpu}; correct CUDA_VISIBLE_DEVICES")
    if count > len(gpus):
        raise InputError(f"machine.devices: {count} GPUs are needed, but the list has {len(gpus)}; add more")
    waits = False
    while True:
        taken, busy = _take_free(gpus, count)
        if taken:
            return taken
        if not waits:
            users = ", ".join(f"{number} by {_user(gpus[number])}" for number in busy)
            print(f"machine.devices: waits until {count} of {len(gpus)} GPUs are free; in use: {users}", flush=True)
        waits = True
        time.sleep(_INTERVAL)


def _take_free(gpus: Mapping[int, str], count: int) -> tuple[list[int], list[int]]:
    """Takes `count` GPUs or none; returns the numbers of those taken, and of those that other processes have."""
    before, taken, busy = set(_held), list[int](), list[int]()
    for number in sorted(gpus, key=lambda each: gpus[each] not in before):
        if len(taken) < count:
            (taken if gpus[number] in before or _lock(gpus[number]) else busy).append(number)
    if len(taken) < count:
        for gpu in _held.keys() - before:
            _held.pop(gpu).close()
        taken = []
    return taken, busy


def _lock(gpu: str) -> bool:
    """Takes a GPU, and writes into its file which process has it. Returns False if another process has it."""
    path = _path(gpu)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stream = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        stream.close()
        return False
    except OSError as error:
        stream.close()
        raise InputError(
            f"{path}: cannot be locked ({error.strerror}); set XDG_CACHE_HOME to a folder on a local disk"
        ) from None
    stream.truncate(0)
    command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    user = {"process": os.getpid(), "host": socket.gethostname(), "command": command, "folder": str(Path.cwd())}
    stream.write(json.dumps(user))
    stream.flush()
    _held[gpu] = stream
    return True


def _user(gpu: str) -> str:
    """Returns which process has a GPU that another process has taken, or took last."""
    try:
        found = json.loads(_path(gpu).read_text(encoding="utf-8"))
        host = "" if found["host"] == socket.gethostname() else f" of {found['host']}"  # another container
        return f"process {found['process']}{host} ({found['command']}, in {found['folder']})"
    except (OSError, ValueError, KeyError):  # just taken, just removed, or of an earlier version
        return "another process"


def _path(gpu: str) -> Path:
    """Returns the lock file of a GPU; a cache folder may be shared by several machines."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "spn4cir", "gpus", _machine(), f"{gpu.replace('/', '_')}.lock")


def _machine() -> str:
    """Returns the id of the machine's boot, which its containers share; the host name where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
