"""`spn4cir runs`: experiments and revisions with the settings that differ, sorted by the score that selects."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.comparison.run_table import list_runs, selecting_score
from spn4cir.comparison.runs import read_runs
from spn4cir.datasets import LAYOUTS, is_trained_on, open_layout
from tests.helpers.layouts import write_cirr, write_fashioniq, write_folder
from tests.helpers.reports import REPOSITORY
from tests.helpers.runs import CIRR_A, FIQ_A, commit_runs, write_run


def call(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["runs", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def set_tau(root: Path, tau: str) -> None:
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    changed = re.sub(r"(\ntrain:.*?\n  fiq:\n    clip: \{tau: )[\d.]+", rf"\g<1>{tau}", text, flags=re.DOTALL)
    (root / "params.yaml").write_text(changed, encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose last commit has settings, and an experiment `warm` of another temperature and better scores."""
    root = commit_runs(tmp_path_factory.mktemp("project"), ".")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    set_tau(root, "0.02")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "settings")
    set_tau(root, "0.07")
    better = {split: [1] * len(ranks) for split, ranks in FIQ_A.items()}
    path = write_run(root / "metrics/fiq/clip.json", "fashioniq", better, root)
    path.with_suffix(".parquet").unlink()
    run("dvc", "exp", "save", "-q", "-n", "warm")
    run("git", "checkout", "-q", "--", ".")
    return root


def test_experiments_are_listed_with_what_differs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best first; a data set whose settings are equal shows its score alone."""
    monkeypatch.chdir(project)
    lines = call().stdout.splitlines()
    start = lines.index("fiq/clip: average_recall, percent, the best first")
    table = [line.split() for line in lines[start + 1 : start + 5]]
    assert table[0] == ["run", "average_recall", "train.tau"]
    assert table[1] == ["warm", "100.00", "0.07"]
    assert {row[0] for row in table[2:]} == {"workspace", "main"}
    assert [row[2] for row in table[2:]] == ["0.02", "0.02"]
    other = lines.index("cirr/clip: mean_recall5_subset1, percent, the best first")
    assert lines[other + 1].split() == ["run", "mean_recall5_subset1"]


def test_scores_of_earlier_weights_are_named_below_the_table(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after a run of `train` alone, whose metrics file is still the one before."""
    root = Path(shutil.copytree(project, tmp_path / "project"))
    monkeypatch.chdir(root)
    path = "data/train/fiq/clip/best.pt"

    def lock(trained: str) -> None:
        stages = {
            "train@fiq-clip": {"cmd": "c", "outs": [{"path": path, "md5": trained}]},
            "validate@fiq-clip": {"cmd": "c", "deps": [{"path": "data/raw", "md5": "b"}, {"path": path, "md5": "a"}]},
        }
        (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))

    lock("a")
    assert "earlier weights" not in call("workspace").stdout
    lock("c")
    said = "the scores of workspace are those of earlier weights; validate@fiq-clip has not run since."
    assert call("workspace", "main").stdout.count(said) == 1


def test_too_few_queries_are_named_below_the_table(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once for all runs with as many queries."""
    monkeypatch.chdir(project)
    lines = call("--dataset", "fiq").stdout.splitlines()
    (place,) = (number for number, line in enumerate(lines) if "too few" in line)
    assert lines[place].startswith("9 queries are too few for a conclusion (fewer than 50)")
    assert place == len(lines) - 1
    enough = write_run(tmp_path / "a.json", "cirr", {"val": [(1, 1)] * 50}, tmp_path)
    assert "too few" not in call(enough).stdout


def test_the_workspace_is_a_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metrics are those on disk, also for compare."""
    monkeypatch.chdir(project / "data")
    assert read_runs("workspace")["fiq", "clip"].label == str(project / "metrics/fiq/clip.json")
    assert len(read_runs("workspace")["fiq", "clip"].queries) == 9
    said = CliRunner().invoke(app, ["compare", "first", "workspace", "--dataset", "fiq"]).stdout
    assert "A = first, B = workspace, 9 queries" in said


def test_runs_are_named_or_taken_from_commits(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older commits have no params.yaml: their settings are unknown. A name without metrics is reported."""
    monkeypatch.chdir(project)
    assert list_runs(1) == ["workspace", "main", "warm"]
    assert len(list_runs(3)) == 5
    said = call("first", "warm", "main", "nosuch", "--dataset", "fiq")
    rows = {row[0]: row[1:] for row in map(str.split, said.stdout.splitlines()[2:-1])}
    assert rows["first"][1:] == ["?"]
    assert rows["warm"] == ["100.00", "0.07"]
    assert "warning: nosuch: no such metrics file, revision or experiment" in said.stderr
    assert "cirr/clip" not in said.stdout


def test_what_cannot_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "this folder is not in a DVC repository" in call(status=1).stderr
    assert "workspace: there is no project in reach with metrics" in call("workspace", status=1).stderr
    alone = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    assert "mean_recall5_subset1" in call(alone).stdout
    assert call("missing.json", status=1).stderr.count("\n") == 1


def test_the_score_that_selects_is_that_of_the_layouts(tmp_path: Path) -> None:
    """A benchmark selects nothing: its last score is an average."""
    writers = {"fashioniq": write_fashioniq, "cirr": write_cirr, "folder": write_folder}
    for layout, writer in writers.items():
        assert is_trained_on(layout)
        options = {"annotations": "triplets.csv"} if layout == "folder" else {}
        opened = open_layout(layout, writer(tmp_path / layout), "error", options)
        zeros = {f"{kind}{k}": 0.0 for kind in ("recall_at", "recall_subset_at") for k in (1, 2, 3, 5, 10, 50)}
        split = "dress" if layout == "fashioniq" else "val"
        assert selecting_score(opened.summarise({split: zeros})) == opened.protocol.selection
    assert selecting_score({"map_at5": 1.0, "map_at50": 2.0}) == "map_at50"
    assert {"fashioniq", "cirr", "folder", "table"} == {name for name in LAYOUTS if is_trained_on(name)}
