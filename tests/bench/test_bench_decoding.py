"""What decoding costs: its share of a run of the pipeline, and a swept run with and without it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import spn4cir.images.preprocess
from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers.clip import ClipComposer
from spn4cir.config.params import Validate
from spn4cir.config.training import BankSettings
from spn4cir.datasets import open_layout
from spn4cir.datasets.protocol import Layout
from spn4cir.evaluation.stored_gallery import images_to_encode, store_gallery
from spn4cir.evaluation.validate import Validated, validate_both
from spn4cir.images.preprocess import Preprocess
from spn4cir.positives import dedup
from spn4cir.positives.dedup import deduplicate
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.stage2 import train_stage2
from spn4cir.types import UniqueImages
from tests.bench.conftest import RatioToBare
from tests.helpers.checkpoints import tiny_state
from tests.helpers.layouts import CATEGORIES, write
from tests.helpers.stub import optimisation, stage2

CPU = torch.device("cpu")
WORKERS = 2
DRAWN = 64
# FashionIQ's images have about this size.
WIDTH, HEIGHT = 300, 400
# Images and queries of FashionIQ's validation split.
VAL_IMAGES, VAL_QUERIES = 15_536, 6_016
PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=64, sheet_queries=8)
BANK = BankSettings(dtype="float32", batch_size=64, reference="stored", images="annotated")
STAGES = ("dedup", "stage 1", "bank", "gallery", "stage 2", "validate")


def write_root(root: Path, photos: tuple[Path, ...], images: dict[str, int], queries: dict[str, int]) -> Layout:
    """Writes FashionIQ's layout, whose images are hard links of a few."""
    (root / "images").mkdir(parents=True)
    for split, count in images.items():
        names = [f"{split}{number:06}" for number in range(count)]
        for number, name in enumerate(names):
            os.link(photos[number % len(photos)], root / "images" / f"{name}.jpg")
        for place, category in enumerate(CATEGORIES):
            own, count = names[place :: len(CATEGORIES)], queries[split] // len(CATEGORIES)
            write(root / "image_splits" / f"split.{category}.{split}.json", own)
            triplets = [
                {"candidate": own[i % len(own)], "target": own[(i + 1) % len(own)], "captions": ["is red", "is long"]}
                for i in range(count)
            ]
            write(root / "captions" / f"cap.{category}.{split}.json", triplets)
    return open_layout("fashioniq", root, "error")


@dataclass(frozen=True)
class Run:
    """A pipeline without captions and generated triplets, with a tiny CLIP; its files are below `folder`."""

    layout: Layout
    folder: Path
    workers: int

    def setup(self, name: str, stored: Path | None = None) -> TrainingSetup:
        work = self.folder / "work" / name
        work.mkdir(parents=True)
        triplets = self.layout.training_triplets()
        return TrainingSetup(self.layout, triplets, PROTOCOL, 42, work, self.workers, CPU, stored=stored)

    def train_stage1(self, unique: UniqueImages, epochs: int) -> None:
        composer = ClipComposer.from_state(tiny_state(), 1, "tiny")
        settings = optimisation(epochs=epochs, batch_size=64)
        train_stage1(composer, unique, settings, self.setup("stage1"), self.folder / "stage1.pt")

    @property
    def stage1(self) -> ClipComposer:
        return load_composer(self.folder / "stage1.pt", "clip")

    def build_bank(self, unique: UniqueImages) -> None:
        (self.folder / "work" / "bank").mkdir(parents=True)
        build_bank(self.stage1, unique, BANK, self.folder / "bank", self.folder / "work" / "bank", self.workers, CPU)

    def store_gallery(self) -> None:
        (self.folder / "work" / "gallery").mkdir(parents=True)
        images = images_to_encode(self.layout.evaluation_splits())
        places = (self.folder / "gallery", self.folder / "work" / "gallery")
        store_gallery(self.stage1, *images, PROTOCOL.batch_size, *places, self.workers, CPU)

    def train_stage2(self, unique: UniqueImages, epochs: int, name: str, stored: Path | None) -> None:
        composer = self.stage1
        bank = open_bank(self.folder / "bank", composer, unique, BANK)
        settings = stage2(epochs=epochs, batch_size=64)
        train_stage2(composer, bank, settings, self.setup(name, stored), self.folder / name)

    def validate(self, name: str, stored: Path | None) -> Validated:
        after = load_composer(self.folder / name / "best.pt", "clip")
        return validate_both(after, self.stage1, self.layout, PROTOCOL, self.workers, CPU, stored=stored)


def all_unique(layout: Layout) -> UniqueImages:
    gallery = layout.training_gallery()
    return UniqueImages(gallery, {name: row for row, name in enumerate(gallery.names)})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw_photos: Callable[..., tuple[Path, ...]]) -> tuple[Path, ...]:
    return draw_photos(tmp_path_factory.mktemp("photos"), DRAWN, WIDTH, HEIGHT, "jpg")


def test_a_swept_run_decodes_no_validation_image(
    ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture, photos: tuple[Path, ...], tmp_path: Path
) -> None:
    """Stage 2 and validate with stored features, beside runs that decode the validation images in each of the two.

    A tenth of FashionIQ's validation images and triplets, with a tiny CLIP and one epoch. The scores are equal.
    """
    images, queries = {"train": 1_000, "val": VAL_IMAGES // 10}, {"train": 1_800, "val": VAL_QUERIES // 10}
    run = Run(write_root(tmp_path / "root", photos, images, queries), tmp_path, WORKERS)
    save_composer(ClipComposer.from_state(tiny_state(), 1, "tiny"), tmp_path / "stage1.pt", stage=1, epoch=0)
    unique = all_unique(run.layout)
    run.build_bank(unique)
    run.store_gallery()
    scores = {}

    def swept(name: str, stored: Path | None) -> None:
        run.train_stage2(unique, 1, name, stored)
        scores[name] = run.validate(name, stored).after.scores

    stored = tmp_path / "gallery"
    ratio = ratio_to_bare(lambda: swept("stored", stored), lambda: swept("encoded", None), rounds=1, warmup=0)
    benchmark.extra_info.update(images=images["val"], queries=queries["val"], bare="encodes in both", limit=1)
    assert scores["stored"] == scores["encoded"]
    assert ratio < 1


@contextmanager
def timed_decoding(patch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Collects the seconds of each decode, and of each crop of a decoded image, in this process."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def measure(*args: Any) -> Any:
            started = perf_counter()
            result = function(*args)
            spent.append(perf_counter() - started)
            return result

        return measure

    with patch.context() as patched:
        patched.setattr(spn4cir.images.preprocess, "open_image", timed(spn4cir.images.preprocess.open_image))
        patched.setattr(dedup, "pixel_digest", timed(dedup.pixel_digest))
        patched.setattr(Preprocess, "crop", timed(Preprocess.crop))
        yield spent


def test_share_of_decoding_in_a_run(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, photos: tuple[Path, ...], tmp_path: Path
) -> None:
    """A 25th of FashionIQ in one process: decoding and cropping, by stage, with four epochs in each training.

    Captions and partners are left out: their models decode each train image once. The network is tiny, so that the
    share is an upper bound; published networks encode for longer.
    """
    images, queries = {"train": 1_005, "val": VAL_IMAGES // 25}, {"train": 720, "val": VAL_QUERIES // 25}
    run = Run(write_root(tmp_path / "root", photos, images, queries), tmp_path, 0)
    unique, seconds, shares = all_unique(run.layout), dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0.0)
    gallery = tmp_path / "gallery"
    actions = (
        lambda: deduplicate(run.layout.training_gallery(), 0),
        lambda: run.train_stage1(unique, 4),
        lambda: run.build_bank(unique),
        run.store_gallery,
        lambda: run.train_stage2(unique, 4, "stage2", gallery),
        lambda: run.validate("stage2", gallery),
    )

    def whole() -> None:
        for stage, action in zip(STAGES, actions, strict=True):
            with timed_decoding(monkeypatch) as spent:
                started = perf_counter()
                action()
                seconds[stage], shares[stage] = perf_counter() - started, sum(spent)

    benchmark.pedantic(whole, rounds=1)
    of_stages = {f"share_of_{stage}".replace(" ", ""): round(shares[stage] / seconds[stage], 2) for stage in STAGES}
    benchmark.extra_info.update(share=round(sum(shares.values()) / sum(seconds.values()), 2), **of_stages)
    assert shares["stage 2"] == shares["validate"] == 0
