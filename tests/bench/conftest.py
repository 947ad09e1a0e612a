"""Shared by the benchmarks. Each compares with a bare operation in the same run, so that its limit fits any machine."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

RatioToBare = Callable[..., float]
PeakMemory = Callable[..., float]

# Peak of this process and of its largest child, in MB. VmHWM instead of ru_maxrss of the process itself, which
# survives exec and would be the size of the pytest process.
REPORT_PEAK = """
import resource
own = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(int(own) / 1e3, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
"""


@pytest.fixture
def ratio_to_bare(benchmark: BenchmarkFixture) -> RatioToBare:
    """Times an operation and the bare one alternately. Returns the ratio of their fastest rounds."""

    def measure(operation: Callable[[], Any], bare: Callable[[], Any], rounds: int = 3, warmup: int = 1) -> float:
        seconds = []

        def time_bare() -> None:
            started = perf_counter()
            bare()
            seconds.append(perf_counter() - started)

        benchmark.pedantic(operation, setup=time_bare, rounds=rounds, warmup_rounds=warmup)
        fastest: float = benchmark.stats.stats.min
        ratio = fastest / min(seconds)
        benchmark.extra_info.update(bare_seconds=round(min(seconds), 4), ratio_to_bare=round(ratio, 3))
        return ratio

    return measure


@pytest.fixture
def peak_memory() -> PeakMemory:
    """Runs code in a fresh interpreter and returns its peak memory in MB, with `children` times its largest child."""

    def measure(code: str, children: int = 0) -> float:
        command = [sys.executable, "-c", code + REPORT_PEAK]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        own, child = map(float, finished.stdout.split()[-2:])
        return own + children * child

    return measure


@pytest.fixture(scope="session")
def draw_photos() -> Callable[..., tuple[Path, ...]]:
    """Writes images with gradients and noise, which decode and compress about as photographs do."""

    def draw(folder: Path, count: int, width: int, height: int, suffix: str = "png") -> tuple[Path, ...]:
        rng = np.random.default_rng(0)
        paths = tuple(folder / f"{position}.{suffix}" for position in range(count))
        for path in paths:
            coarse = rng.integers(0, 256, (height // 32 + 2, width // 32 + 2, 3), dtype=np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
            noise = rng.integers(0, 8, smooth.shape, dtype=np.uint8)
            Image.fromarray((smooth & 0xF8) + noise).save(path, compress_level=1)
        return paths

    return draw
