"""GeneCIS's own annotation files, of the two tasks whose images are COCO's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spn4cir.config.load import load_params
from tests.real.conftest import Call

TASKS = ("focus_object", "change_object")


@pytest.fixture(scope="module")
def root(folder: Callable[[str], Path]) -> Path:
    return folder("genecis")


def test_check_data(root: Path, call: Call, tmp_path: Path) -> None:
    where = ("--layout", "genecis", "--root", root)
    said = call("check-data", *where, "--tasks", ",".join(TASKS), "--json", tmp_path / "found.json").stdout
    assert "ok: all 3,033 images are there and can be decoded\n" in said
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [(s["split"], s["triplets"], s["images"], s["empty_texts"]) for s in found["splits"]] == [
        ("focus_object", 1_960, 2_198, 0),
        ("change_object", 1_960, 2_739, 0),
    ]
    assert all(total["here"] == total["official"] for total in found["official"].values())
    refused = call("check-data", *where, status=1).stderr
    assert "tasks: [focus_object, change_object] in params.yaml, or --tasks focus_object,change_object" in refused


def test_add_dataset_writes_the_tasks(root: Path, call: Call, project: Path) -> None:
    said = call("add-dataset", "real", "--layout", "genecis", "--path", root).stdout
    assert "  tasks       only focus_object, change_object: written to benchmarks.real.tasks\n" in said
    assert "  validation  1960 focus_object, 1960 change_object queries\n" in said
    assert "  images      ok: all 3,033 images are there and can be decoded\n" in said
    assert load_params(project / "params.yaml").benchmarks["real"].tasks == TASKS


def test_validate(root: Path, weights: Path, call: Call, project: Path) -> None:
    arguments = ("--layout", "genecis", "--root", root, "--checkpoint", weights, "--json", "m.json")
    call("validate", *arguments, "--tasks", ",".join(TASKS))
    metrics = json.loads(Path("m.json").read_text(encoding="utf-8"))
    counts = metrics["counts"]
    assert counts["queries"] == dict.fromkeys(TASKS, 1_960)
    assert counts["gallery"] == {"focus_object": 2_198, "change_object": 2_739}
    assert counts["left_out"] == counts["empty_texts"] == dict.fromkeys(TASKS, 0)
    assert metrics["protocol"]["tasks"] == "focus_object, change_object"
