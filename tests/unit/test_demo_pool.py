"""The drawn pools are CC3M folders of images that are in no data set."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from demo.draw.attributes import Garment, Scene, Thing
from demo.draw.captions import attributes_of
from demo.draw.dataset import plan_dataset
from demo.draw.pool import write_pool
from demo.settings import DemoParams, PoolSize, read_settings
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.images.decoding import pixel_digest

DATASETS = ("demo_fiq", "demo_cirr")
SIZE = PoolSize(seed=1, parts=(0, 64), images=6)


@pytest.fixture(scope="module")
def settings() -> DemoParams:
    return read_settings(Path(__file__).parents[2] / "demo" / "params.yaml")


@pytest.fixture(params=DATASETS)
def dataset(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(dataset: str, tmp_path: Path) -> Path:
    write_pool(dataset, SIZE, tmp_path / dataset)
    return tmp_path / dataset


def records(root: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(root.glob("part_*.data")) for line in path.read_text().splitlines()]


def test_a_pool_is_read_as_cc3m(root: Path) -> None:
    images = Cc3m(root, None, "error").images()
    assert len(images) == 2 * 6
    assert len({pixel_digest(image.path) for image in images}) == 12
    assert {path.name for path in root.iterdir()} == {"images", "part_0.data", "part_64.data"}
    assert len(list((root / "images").iterdir())) == 12


def test_lines_hold_what_the_authors_lines_hold(root: Path, dataset: str) -> None:
    for record in records(root):
        assert list(record) == ["url", "image", "caption"]
        assert record["url"].startswith("https://")
        assert (root / record["image"]).is_file()
    kind = {"demo_fiq": Garment, "demo_cirr": Scene}[dataset]
    texts = [record["caption"]["en"] for record in records(root)]
    assert all("colour" in attributes_of(text, kind) for text in texts)
    assert len(set(texts)) > 6


def test_the_same_settings_draw_the_same_pool(root: Path, dataset: str, tmp_path: Path) -> None:
    write_pool(dataset, SIZE, tmp_path / "again")
    write_pool(dataset, SIZE.model_copy(update={"seed": 2}), tmp_path / "other")
    first, again, other = (
        [path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()]
        for folder in (root, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert not set(first) & set(other)


def test_no_image_is_one_of_a_data_set(
    settings: DemoParams, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal seeds give equal images, other seeds other ones; at the default sizes no image is drawn twice."""
    seeds: list[str] = []

    def rendered(thing: Thing, seed: str) -> Image.Image:
        seeds.append(seed)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("demo.draw.pool.render", rendered)
    size = getattr(settings.draw_pool, dataset)
    write_pool(dataset, size, tmp_path)
    drawn = {planned.seed for planned in plan_dataset(dataset, settings.draw).images}
    assert len(set(seeds)) == len(seeds) == len(size.parts) * size.images
    assert not drawn & set(seeds)


def test_the_default_pools_are_as_the_published_ones(settings: DemoParams) -> None:
    assert settings.draw_pool.demo_fiq.parts == (0, 64, 128, 192)
    assert set(settings.draw_pool.demo_cirr.parts) == {0, 64, 128, 192, 32, 96, 160}


@pytest.mark.parametrize("change", [{"parts": ()}, {"parts": (-1,)}, {"images": 0}, {"images": 10_001}])
def test_sizes_that_no_pool_has_are_refused(change: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        PoolSize.model_validate(SIZE.model_dump() | change)


def test_a_wrong_size_is_named_with_its_key(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "demo" / "params.yaml").read_text()
    assert "parts: [0, 64, 128, 192]" in text
    (tmp_path / "params.yaml").write_text(text.replace("parts: [0, 64, 128, 192]", "parts: []"))
    with pytest.raises(InputError, match=r"draw_pool\.demo_fiq\.parts"):
        read_settings(tmp_path / "params.yaml")
