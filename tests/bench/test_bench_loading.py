"""Image loading against a bare decode-and-resize loop."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from spn4cir.images.preprocess import Preprocess, image_batches

WORKERS = 2
SIZE = 288


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw_photos: Callable[..., tuple[Path, ...]]) -> tuple[Path, ...]:
    return draw_photos(tmp_path_factory.mktemp("photos"), 512, 480, 640)


def decode_and_resize(paths: tuple[Path, ...]) -> None:
    for path in paths:
        with Image.open(path) as image:
            scale = SIZE / min(image.size)
            image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def in_processes(paths: tuple[Path, ...]) -> None:
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(decode_and_resize, [paths[start::WORKERS] for start in range(WORKERS)]))


def load(paths: tuple[Path, ...]) -> None:
    for _ in image_batches(paths, Preprocess(SIZE), 64, WORKERS):
        pass


def test_loads_as_fast_as_a_bare_loop(
    benchmark: BenchmarkFixture, ratio_to_bare: Callable[..., float], photos: tuple[Path, ...]
) -> None:
    """Images per second with two workers are at least 0.9 times those of a plain decode-and-resize loop."""
    one = 1 / ratio_to_bare(lambda: load(photos), lambda: decode_and_resize(photos))
    started = perf_counter()
    in_processes(photos)
    two = (perf_counter() - started) / benchmark.stats.stats.min
    benchmark.extra_info.update(
        images_per_second=len(photos) / benchmark.stats.stats.min, speed_against_loop=one, against_two_loops=two
    )
    assert one >= 0.9
