"""Deduplication against a bare parallel decode, and its growth with the number of images."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from spn4cir.images.decoding import open_image
from spn4cir.positives.dedup import deduplicate
from spn4cir.types import Gallery

WORKERS = 2
FEW, MANY = 2_000, 20_000


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw_photos: Callable[..., tuple[Path, ...]]) -> tuple[Path, ...]:
    return draw_photos(tmp_path_factory.mktemp("photos"), 1_000, 256, 256)


@pytest.fixture(scope="module")
def thumbnails(
    tmp_path_factory: pytest.TempPathFactory, draw_photos: Callable[..., tuple[Path, ...]]
) -> tuple[Path, ...]:
    return draw_photos(tmp_path_factory.mktemp("thumbnails"), MANY, 64, 64)


def gallery(paths: tuple[Path, ...]) -> Gallery:
    return Gallery(tuple(path.stem for path in paths), paths)


def decode(path: Path) -> None:
    open_image(path)


def decode_all(paths: tuple[Path, ...]) -> None:
    with ProcessPoolExecutor(WORKERS) as pool:
        for _ in pool.map(decode, paths, chunksize=16):
            pass


def seconds_per_image(paths: tuple[Path, ...], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = perf_counter()
        deduplicate(gallery(paths), WORKERS)
        times.append(perf_counter() - started)
    return min(times) / len(paths)


def test_costs_hardly_more_than_decoding(ratio_to_bare: Callable[..., float], photos: tuple[Path, ...]) -> None:
    """At most 1.2 times a decode of the same files in the same executor, with equal processes and chunks."""
    assert ratio_to_bare(lambda: deduplicate(gallery(photos), WORKERS), lambda: decode_all(photos), rounds=5) <= 1.2


def test_time_grows_linearly(benchmark: BenchmarkFixture, thumbnails: tuple[Path, ...]) -> None:
    """With ten times the images the time per image is at most 1.3 times as long."""
    few = seconds_per_image(thumbnails[:FEW], rounds=5)
    benchmark.pedantic(lambda: deduplicate(gallery(thumbnails), WORKERS), rounds=3)
    many = benchmark.stats.stats.min / MANY
    few = min(few, seconds_per_image(thumbnails[:FEW], rounds=5))
    benchmark.extra_info.update(ms_per_image_at_2000=few * 1e3, ms_per_image_at_20000=many * 1e3, ratio=many / few)
    assert many / few <= 1.3


def test_memory_is_flat(
    benchmark: BenchmarkFixture, peak_memory: Callable[..., float], thumbnails: tuple[Path, ...]
) -> None:
    """Peak memory, workers included, grows by names, paths and digests: at most 2 kB an image, whose pixels are 12 kB.

    Workers are forked, so names and paths count once in the parent and once in each worker.
    """
    code = (
        "from pathlib import Path; from spn4cir.positives.dedup import deduplicate; from spn4cir.types import Gallery\n"
        f"names = tuple(str(i) for i in range({{}})); folder = Path({str(thumbnails[0].parent)!r})\n"
        f"deduplicate(Gallery(names, tuple(folder / (name + '.png') for name in names)), {WORKERS})\n"
    )
    few = peak_memory(code.format(FEW), children=WORKERS)
    many = benchmark.pedantic(peak_memory, args=(code.format(MANY),), kwargs={"children": WORKERS}, rounds=1)
    kilobytes_an_image = (many - few) * 1e3 / (MANY - FEW)
    benchmark.extra_info.update(peak_mb_at_2000=few, peak_mb_at_20000=many, kilobytes_an_image=kilobytes_an_image)
    assert kilobytes_an_image <= 2
