"""The processor cores that this process may use."""

import os


def usable_cores() -> int:
    """Returns the number of cores; those that a scheduler or `taskset` has assigned, where the system knows them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
