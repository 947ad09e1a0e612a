"""The images of the drawn data sets match their annotations."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.draw.attributes import Garment, Scene, changed, draw_thing, vary
from demo.draw.cirr import GROUP_SIZE
from demo.draw.dataset import DRAWN, plan_dataset, write_dataset
from demo.draw.render import render
from demo.settings import CircoSize, CirrSize, FashionIQSize, read_settings
from spn4cir.datasets.circo import Circo

FASHIONIQ = FashionIQSize(
    seed=1,
    train_images=24,
    train_triplets=16,
    train_used=0.5,
    duplicates=4,
    val_images=10,
    val_triplets=8,
    test_images=4,
    test_triplets=3,
)
CIRR = CirrSize(
    seed=1,
    train_groups=4,
    train_triplets=16,
    duplicates=4,
    val_groups=3,
    val_triplets=6,
    test1_groups=2,
    test1_triplets=4,
)
CIRCO = CircoSize(seed=1, val_queries=8, test_queries=3, most_targets=3, near_misses=2)
DEFAULT = read_settings(Path(__file__).parents[2] / "demo" / "params.yaml").draw
TINY = DEFAULT.model_copy(update={"demo_fiq": FASHIONIQ, "demo_cirr": CIRR, "demo_circo": CIRCO})
CATEGORIES = Garment.VALUES["category"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    for name in DRAWN:
        write_dataset(plan_dataset(name, TINY), root / name, processes=1)
    return root


def load(path):
    return json.loads(path.read_text())


def decoded(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.shape, pixels.tobytes()


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("category", CATEGORIES)
def test_fashioniq_triplets_name_images_of_their_split(drawn, category, split):
    root = drawn / "demo_fiq"
    names = load(root / f"image_splits/split.{category}.{split}.json")
    rows = load(root / f"captions/cap.{category}.{split}.json")
    assert len(names) == len(set(names)) == getattr(FASHIONIQ, f"{split}_images")
    assert len(rows) == getattr(FASHIONIQ, f"{split}_triplets")
    assert all((root / f"images/{name}.png").is_file() for name in names)
    for row in rows:
        assert {row["candidate"], row.get("target", row["candidate"])} <= set(names)
        assert len(row["captions"]) == 2
        assert all(caption.strip() for caption in row["captions"])
        assert ("target" in row) == (split != "test")
        assert row.get("target") != row["candidate"]


def test_fashioniq_leaves_some_train_images_out_of_all_triplets(drawn):
    root = drawn / "demo_fiq"
    for category in CATEGORIES:
        rows = load(root / f"captions/cap.{category}.train.json")
        used = {row[key] for row in rows for key in ("target", "candidate")}
        assert used < set(load(root / f"image_splits/split.{category}.train.json"))


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("val", "dev"), ("test1", "test1")])
def test_cirr_groups_hold_six_images_with_reference_and_target(drawn, split, folder):
    root = drawn / "demo_cirr"
    paths = load(root / f"cirr/image_splits/split.rc2.{split}.json")
    rows = load(root / f"cirr/captions/cap.rc2.{split}.json")
    assert all((root / path).is_file() and path.startswith(f"./{folder}/") for path in paths.values())
    assert all(Path(path).stem == name for name, path in paths.items())
    for row in rows:
        members = row["img_set"]["members"]
        assert len(set(members)) == GROUP_SIZE == 6
        assert set(members) <= set(paths)
        assert members[row["img_set"]["reference_rank"]] == row["reference"]
        assert row["caption"].strip()
        if split == "test1":
            assert "target_hard" not in row
            assert "target_soft" not in row
            assert "target_rank" not in row["img_set"]
        else:
            assert members[row["img_set"]["target_rank"]] == row["target_hard"] != row["reference"]
            assert row["target_soft"][row["target_hard"]] == 1.0


def test_circo_targets_are_all_that_show_what_is_asked_for(drawn):
    """By the scenes of the plan. The layout reads it; the test split has no targets, and a gallery for lists of 50."""
    plan = plan_dataset("demo_circo", DEFAULT)
    shown = {int(Path(drawn.path).stem): drawn.thing for drawn in plan.images}
    rows = plan.texts["annotations/val.json"]
    assert len(rows) == 100
    for row in rows:
        target = shown[row["target_img_id"]]
        assert row["gt_img_ids"][0] == row["target_img_id"]
        assert sorted(row["gt_img_ids"]) == sorted(number for number, scene in shown.items() if scene == target)
        assert 1 <= len(changed(shown[row["reference_img_id"]], target)) <= 2
    assert len({len(row["gt_img_ids"]) for row in rows}) >= 4
    (split,) = Circo(drawn / "demo_circo", "error").evaluation_splits()
    assert len(split.triplets) == 8
    assert {t.target_name for t in Circo(drawn / "demo_circo", "error").test_split().triplets} == {None}
    assert len(shown) > 500


def test_cirr_pair_ids_are_unique_over_all_splits(drawn):
    captions = (drawn / "demo_cirr/cirr/captions").glob("*.json")
    ids = [row["pairid"] for path in captions for row in load(path)]
    assert len(ids) == len(set(ids)) == 16 + 6 + 4


@pytest.mark.parametrize("name", ["demo_fiq", "demo_cirr"])
def test_copies_repeat_pixels_and_some_differ_in_bytes(drawn, name):
    plan = plan_dataset(name, TINY)
    root = drawn / name
    assert all(decoded(root / copy.path) == decoded(root / copy.original) for copy in plan.copies)
    same_bytes = [(root / c.path).read_bytes() == (root / c.original).read_bytes() for c in plan.copies]
    assert set(same_bytes) == {True, False}
    every = Counter(decoded(path) for path in root.rglob("*.png"))
    assert sum(every.values()) - len(every) == len(plan.copies), "other images must differ, equal attributes or not"


@pytest.mark.parametrize("name", ["demo_fiq", "demo_cirr"])
def test_triplets_of_the_default_size_name_copies(name):
    plan = plan_dataset(name, DEFAULT)
    copies = {Path(copy.path).stem for copy in plan.copies}
    rows = [row for path, value in plan.texts.items() if "/cap." in path and ".train." in path for row in value]
    named = {row.get(key) for row in rows for key in ("candidate", "reference", "target", "target_hard")}
    assert copies & named
    assert all("train" in copy.path or name == "demo_fiq" for copy in plan.copies)


def test_default_size_keeps_its_bounds():
    plans = [plan_dataset(name, DEFAULT) for name in ("demo_fiq", "demo_cirr")]
    assert sum(len(plan.images) + len(plan.copies) + len(plan.texts) for plan in plans) <= 6000
    assert len(plans[1].texts["cirr/image_splits/split.rc2.test1.json"]) > 50
    modes = Counter(drawn.mode for plan in plans for drawn in plan.images)
    assert {"RGB", "P", "RGBA"} <= set(modes)
    assert modes["RGB"] > 0.9 * modes.total()


def test_plan_and_pixels_follow_the_seed():
    first, again = (plan_dataset("demo_fiq", TINY) for _ in range(2))
    other = plan_dataset("demo_fiq", TINY.model_copy(update={"demo_fiq": FASHIONIQ.model_copy(update={"seed": 2})}))
    assert first == again
    assert first != other
    thing = draw_thing(Garment, random.Random(0))
    assert render(thing, "a").tobytes() == render(thing, "a").tobytes() != render(thing, "b").tobytes()


def test_parallel_drawing_writes_the_same_bytes(drawn, tmp_path):
    write_dataset(plan_dataset("demo_cirr", TINY), tmp_path / "again", processes=2)
    once, again = (
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*.*")} for r in (drawn / "demo_cirr", tmp_path / "again")
    )
    assert once == again


@pytest.mark.parametrize("kind", [Garment, Scene])
def test_every_kind_has_images_beyond_the_padded_ratio(kind):
    rng = random.Random(0)
    ratios = [max(i.size) / min(i.size) for i in (render(draw_thing(kind, rng), str(n)) for n in range(60))]
    assert any(ratio > 1.25 for ratio in ratios)
    assert any(ratio < 1.25 for ratio in ratios)


@pytest.mark.parametrize("kind", [Garment, Scene])
def test_vary_changes_as_many_attributes_as_asked(kind):
    rng = random.Random(0)
    thing = draw_thing(kind, rng)
    assert [len(changed(thing, vary(thing, changes, rng))) for changes in (1, 2, 3)] == [1, 2, 3]
