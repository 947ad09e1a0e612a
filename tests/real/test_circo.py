"""CIRCO's own annotation files; its list contains the images that queries and the authors' examples name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import Call

EXAMPLE = Path("submission_examples", "submission_test.json")


@pytest.fixture(scope="module")
def root(folder: Callable[[str], Path]) -> Path:
    return folder("circo")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_check_data(root: Path, call: Call, tmp_path: Path) -> None:
    arguments = ("--layout", "circo", "--root", root, "--json", tmp_path / "found.json")
    assert "ok: all 32,762 images are there and can be decoded\n" in call("check-data", *arguments).stdout
    found = read(tmp_path / "found.json")
    assert [(s["split"], s["triplets"], s["images"], s["empty_texts"]) for s in found["splits"]] == [
        ("val", 220, 32_762, 0),
        ("test", 800, 32_762, 0),
    ]
    assert (found["missing"], found["broken"], found["unlisted"]) == ([], [], [])


def test_add_dataset(root: Path, call: Call, project: Path) -> None:
    said = call("add-dataset", "real", "--layout", "circo", "--path", root, "--no-check").stdout
    assert "  validation  220 val queries\n" in said
    assert "  test        800 queries\n" in said


def test_dedup_has_nothing_to_do(root: Path, call: Call, project: Path) -> None:
    said = call("dedup", "--layout", "circo", "--root", root, "--out", "o.json", status=1).stderr
    assert "layout circo has no training split" in said


def test_validate(root: Path, weights: Path, call: Call, project: Path) -> None:
    call("validate", "--layout", "circo", "--root", root, "--checkpoint", weights, "--json", "m.json")
    metrics = read(Path("m.json"))
    counts = metrics["counts"]
    assert (counts["queries"], counts["gallery"]) == ({"val": 220}, {"val": 32_762})
    assert (counts["left_out"], counts["empty_texts"]) == ({"val": 0}, {"val": 0})
    targets = [len(query["gt_img_ids"]) for query in read(root / "annotations/val.json")]
    assert counts["targets"]["val"] == {str(n): targets.count(n) for n in sorted(set(targets))}


def test_submit(root: Path, weights: Path, call: Call, project: Path) -> None:
    where = ("--layout", "circo", "--root", root)
    call("submit", *where, "--checkpoint", weights, "--name", "mine", "--out", "out")
    path = Path("out/submission_test_mine.json")
    assert call("check-submission", path, *where).stdout == (
        f"ok: {path} has metric map: 800 queries with 50 names each\n"
    )
    assert read(path).keys() == {str(query["id"]) for query in read(root / "annotations/test.json")}


def test_the_examples_of_the_authors(root: Path, call: Call) -> None:
    """The file of val is for the authors' script; the server accepts only that of test, and the line says so."""
    where = ("--layout", "circo", "--root", root)
    test, val = root / EXAMPLE, root / "submission_examples" / "submission_val.json"
    assert call("check-submission", test, *where).stdout == (
        f"ok: {test} has metric map: 800 queries with 50 names each\n"
    )
    assert call("check-submission", val, *where).stdout == (
        f"ok: {val} has metric map: 220 queries of val, which no server scores, with 50 names each\n"
    )


DAMAGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c["5"].pop(), "query 5: 49 names, expected 50"),
    (lambda c: c["5"].__setitem__(1, c["5"][0]), "query 5: a name occurs twice"),
    (lambda c: c["5"].__setitem__(1, 1), "query 5: '1' is not a test image"),
    (lambda c: c["5"].__setitem__(1, str(c["5"][1])), "query 5: expected a list of integers, the ids of images"),
    (lambda c: c.pop("5"), "1 query ids are missing, the first is 5"),
    (lambda c: c.update({"800": c.pop("5")}), "1 query ids are not in test, the first is 800"),
    (lambda c: c.update(metric="map"), "1 query ids are not in test, the first is metric"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_copies_of_them(root: Path, call: Call, tmp_path: Path, damage: Any, message: str) -> None:
    content = read(root / EXAMPLE)
    damage(content)
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    said = call("check-submission", tmp_path / "a.json", "--layout", "circo", "--root", root, status=1).stderr
    assert message in said
