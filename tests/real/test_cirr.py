"""CIRR's own annotation files, with train captions made of val's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from spn4cir.datasets import open_layout
from tests.real.conftest import Call

EXAMPLES = ("test1_pred_ranks_recall.json", "test1_pred_ranks_recall_subset.json")


@pytest.fixture(scope="module")
def root(folder: Callable[[str], Path]) -> Path:
    return folder("cirr")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_check_data(root: Path, call: Call, tmp_path: Path) -> None:
    said = call("check-data", "--layout", "cirr", "--root", root, "--json", tmp_path / "found.json").stdout
    assert "ok: all 21,551 images are there and can be decoded\n" in said
    found = read(tmp_path / "found.json")
    assert [(s["split"], s["triplets"], s["images"], s["empty_texts"]) for s in found["splits"]] == [
        ("train", 4_181, 16_939, 0),
        ("val", 4_181, 2_297, 0),
        ("test1", 4_148, 2_315, 1),
    ]
    assert (found["missing"], found["broken"], found["unlisted"]) == ([], [], [])
    differing = [what for what, total in found["official"].items() if total["here"] != total["official"]]
    assert differing == ["train triplets"], "those are made of val's"


def test_add_dataset(root: Path, call: Call, project: Path) -> None:
    said = call("add-dataset", "real", "--layout", "cirr", "--path", root, "--no-check").stdout
    records = read(root / "cirr/captions/cap.rc2.train.json")
    names = {record[role] for record in records for role in ("reference", "target_hard")}
    assert f"  training    4181 triplets, {len(names)} images\n" in said
    assert "  validation  4181 val queries\n" in said
    assert "  test        4148 queries\n" in said
    assert "the pipeline will stop" not in said


def test_dedup(root: Path, call: Call, project: Path) -> None:
    layout = open_layout("cirr", root, "error")
    gallery = layout.training_gallery()
    pixels = {Image.open(path).convert("RGB").tobytes() for path in gallery.paths}
    call("dedup", "--layout", "cirr", "--root", root, "--out", "unique.json")
    kept, _, row = read(Path("unique.json"))
    assert (len(row), len(kept)) == (len(gallery), len(pixels))
    assert len(layout.caption_images("split")) == 16_939


def test_validate(root: Path, weights: Path, call: Call, project: Path) -> None:
    call("validate", "--layout", "cirr", "--root", root, "--checkpoint", weights, "--json", "m.json")
    counts = read(Path("m.json"))["counts"]
    assert (counts["queries"], counts["gallery"]) == ({"val": 4_181}, {"val": 2_297})
    assert (counts["left_out"], counts["missing_images"], counts["empty_texts"]) == ({"val": 0},) * 3
    table = pq.read_table("m.queries.parquet")
    assert table.num_rows == 4_181
    assert set(map(bool, table["subset_rank"].to_pylist())) == {True}, "each target is in its query's group"


def test_submit(root: Path, weights: Path, call: Call, project: Path) -> None:
    """All queries of test1 are answered, also the one with the empty text, and the files pass their check."""
    call("submit", "--root", root, "--checkpoint", weights, "--name", "mine", "--out", "out")
    known = read(root / "cirr/image_splits/split.rc2.test1.json").keys()
    assert len(known) == 2_315
    for metric, count in (("recall", 50), ("recall_subset", 3)):
        path = Path(f"out/{metric}_submission_mine.json")
        said = call("check-submission", path, "--root", root).stdout
        assert said == f"ok: {path} has metric {metric}: 4148 queries with {count} names each\n"
        content = read(path)
        assert len(content) == 4_148 + 2
        assert len(set(content["27098"])) == count
        assert set(content["27098"]) <= known


def test_the_examples_of_the_authors(root: Path, call: Call) -> None:
    for name, metric, count in zip(EXAMPLES, ("recall", "recall_subset"), (50, 3), strict=True):
        path = root / "demo_files" / name
        said = call("check-submission", path, "--root", root).stdout
        assert said == f"ok: {path} has metric {metric}: 4148 queries with {count} names each\n"


def without_a_name(content: dict[str, Any]) -> None:
    content["12063"].pop()


def a_name_twice(content: dict[str, Any]) -> None:
    content["12063"][1] = content["12063"][0]


def a_name_of_val(content: dict[str, Any]) -> None:
    content["12063"][0] = "dev-244-0-img0"


def the_reference(content: dict[str, Any]) -> None:
    content["12063"][0] = "test1-147-1-img1"


def without_the_empty_query(content: dict[str, Any]) -> None:
    del content["27098"]


def a_query_of_val(content: dict[str, Any]) -> None:
    content["12060"] = content.pop("12063")


def of_another_metric(content: dict[str, Any]) -> None:
    content["metric"] = "precision"


def of_another_version(content: dict[str, Any]) -> None:
    content["version"] = "rc1"


DAMAGES = [
    (without_a_name, "pair 12063: {fewer} names, expected {count}"),
    (a_name_twice, "pair 12063: a name occurs twice"),
    (a_name_of_val, "pair 12063: 'dev-244-0-img0' is not a test1 image"),
    (the_reference, "pair 12063: lists its own reference 'test1-147-1-img1'"),
    (without_the_empty_query, "1 pair ids are missing, the first is 27098"),
    (a_query_of_val, "1 pair ids are not in test1, the first is 12060"),
    (of_another_metric, "metric is 'precision', expected one of recall, recall_subset"),
    (of_another_version, "version is 'rc1', expected 'rc2'"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
@pytest.mark.parametrize(("name", "count"), [(EXAMPLES[0], 50), (EXAMPLES[1], 3)])
def test_damaged_copies_of_them(
    root: Path, call: Call, tmp_path: Path, name: str, count: int, damage: Any, message: str
) -> None:
    content = read(root / "demo_files" / name)
    damage(content)
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    said = call("check-submission", tmp_path / "a.json", "--root", root, status=1).stderr
    assert message.format(fewer=count - 1, count=count) in said


def test_the_two_metrics_are_told_apart(root: Path, call: Call, tmp_path: Path) -> None:
    """Lists of 50 for the metric of the subset."""
    content = read(root / "demo_files" / EXAMPLES[0]) | {"metric": "recall_subset"}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    said = call("check-submission", tmp_path / "a.json", "--root", root, status=1).stderr
    assert "50 names, expected 3" in said
