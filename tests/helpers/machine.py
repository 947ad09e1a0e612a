"""The machine that a measurement is of, in words."""

import os
import platform
from datetime import UTC, datetime

import cpuinfo


def machine() -> str:
    """Returns processor, cores, load, Python and date."""
    cores = len(os.sched_getaffinity(0))
    name = cpuinfo.get_cpu_info().get("brand_raw", platform.machine())
    return (
        f"{name}, {cores} core{'s' if cores > 1 else ''}, load average {os.getloadavg()[2]:.1f} (15 minutes); "
        f"Python {platform.python_version()}; {datetime.now(tz=UTC).date().isoformat()}"
    )
