"""Building a bank beside encoding the same images batch by batch and keeping nothing."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from spn4cir.bank import build_bank
from spn4cir.composers.clip import ClipComposer
from spn4cir.encoding import encode_batches
from spn4cir.params import Bank
from spn4cir.types import Gallery, UniqueImages
from tests.bench.conftest import RatioToBare
from tests.helpers.checkpoints import tiny_state

IMAGES, BATCH = 256, 32
CPU = torch.device("cpu")


def test_writing_costs_little(
    ratio_to_bare: RatioToBare,
    benchmark: BenchmarkFixture,
    draw_photos: Callable[..., tuple[Path, ...]],
    tmp_path: Path,
) -> None:
    """Maps, flushes after every batch, the note of what is done, the manifest: at most half on top.

    The network is tiny, so that this is the worst case; how many encodes a build makes is counted in the unit tests.
    """
    paths = draw_photos(tmp_path, IMAGES, 128, 128)
    names = tuple(path.stem for path in paths)
    unique = UniqueImages(Gallery(names, paths), {name: row for row, name in enumerate(names)})
    composer = ClipComposer.from_state(tiny_state(), 1, "tiny")
    runs = count()

    def build() -> None:
        work = tmp_path / f"work{next(runs)}"
        work.mkdir()
        build_bank(composer, unique, Bank(dtype="float32", batch_size=BATCH), tmp_path / "bank", work, 0, CPU)

    def bare() -> None:
        for _ in encode_batches(composer, paths, BATCH, 0, CPU, "bare"):
            pass

    ratio = ratio_to_bare(build, bare, rounds=5)
    benchmark.extra_info["limit"] = 1.5
    assert ratio <= 1.5
