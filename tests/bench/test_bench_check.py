"""check-data over as many images as FashionIQ's train split files name, beside a bare parallel decode of them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from spn4cir.datasets import open_layout
from spn4cir.images import usable
from spn4cir.projects.check import check_data
from tests.bench.conftest import PeakMemory, RatioToBare
from tests.bench.test_bench_dedup import WORKERS, decode_all
from tests.helpers.layouts import CATEGORIES, write

IMAGES = {"train": 46_609, "val": 60}
TRIPLETS = {"train": 18_000, "val": 30}
DRAWN = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, draw_photos: Callable[..., tuple[Path, ...]]) -> Path:
    """Writes FashionIQ's layout; its images are hard links of a few, so they take no space."""
    folder = tmp_path_factory.mktemp("fashion")
    (folder / "drawn").mkdir()
    (folder / "images").mkdir()
    photos = draw_photos(folder / "drawn", DRAWN, 480, 640, "jpg")
    for split, images in IMAGES.items():
        names = [f"{split}{number:06}" for number in range(images)]
        for number, name in enumerate(names):
            os.link(photos[number % DRAWN], folder / "images" / f"{name}.jpg")
        for place, category in enumerate(CATEGORIES):
            own = names[place :: len(CATEGORIES)]
            write(folder / "image_splits" / f"split.{category}.{split}.json", own)
            count = TRIPLETS[split] // len(CATEGORIES)
            pairs = zip(own[:count], own[-count:], strict=True)
            triplets = [{"candidate": one, "target": other, "captions": ["red", "long"]} for one, other in pairs]
            write(folder / "captions" / f"cap.{category}.{split}.json", triplets)
    return folder


def test_costs_hardly_more_than_decoding(root: Path, ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture) -> None:
    """At most 1.2 times a decode of the same files by as many processes; names, costs and lists included."""
    paths = tuple(sorted((root / "images").iterdir()))

    def check() -> None:
        usable.SEEN.clear()
        assert check_data(open_layout("fashioniq", root, "error"), WORKERS).checked == len(paths)

    ratio = ratio_to_bare(check, lambda: decode_all(paths), rounds=2, warmup=0)
    benchmark.extra_info.update(images=len(paths), limit=1.2)
    assert ratio <= 1.2


def test_memory_is_small(root: Path, peak_memory: PeakMemory, benchmark: BenchmarkFixture) -> None:
    """All processes together stay below 500 MB: names and paths, and one image at a time in each."""
    code = (
        "from pathlib import Path; from spn4cir.projects.check import check_data\n"
        "from spn4cir.datasets import open_layout\n"
        f"check_data(open_layout('fashioniq', Path({str(root)!r}), 'error'), {WORKERS})\n"
    )
    peak = benchmark.pedantic(peak_memory, args=(code,), kwargs={"children": WORKERS}, rounds=1)
    benchmark.extra_info.update(images=sum(IMAGES.values()), peak_mb=peak, limit_mb=500)
    assert peak <= 500
