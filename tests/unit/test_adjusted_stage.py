"""The stage `validate` with adjustments, on a small data set with an untrained network."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from spn4cir.evaluation.score_recipe import RECIPE_KEY
from stages.common import run
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write_cirr

ROOT = Path(__file__).parents[2]
METRICS = Path("metrics/demo_cirr/clip.json")
FOLDER = Path("data/validate/demo_cirr/clip")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with weights of both stages and a bank."""
    root = tmp_path / "project"
    write_cirr(root / "data/raw/demo_cirr", val_groups=12)
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    change(lambda params: params["shortcuts"]["demo_cirr"].update(enabled=False))
    write_checkpoint(Path("data/checkpoint/demo_cirr/clip/stage1.pt"))
    write_checkpoint(Path("data/train/demo_cirr/clip/best.pt"), stage=2)
    for path in ("data/code/bank/demo_cirr-clip.txt", "data/listing/demo_cirr/clip.json"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_text("{}")
    stage(monkeypatch, "dedup")
    stage(monkeypatch, "bank")
    return root


def change(edit: Callable[[Any], None]) -> None:
    yaml = YAML()
    content = yaml.load(Path("params.yaml"))
    edit(content)
    yaml.dump(content, Path("params.yaml"))


def stage(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    names = ["DATASET"] if name == "dedup" else ["DATASET", "FAMILY"]
    monkeypatch.setattr(sys, "argv", [f"stages.{name}", "demo_cirr", "clip"][: 1 + len(names)])
    run(import_module(f"stages.{name}").main, names)


def validate(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[dict[str, Any], bytes]:
    """Runs the stage; returns its metrics and the plain table of queries."""
    change(lambda params: params["validate"]["demo_cirr"]["clip"].update(settings))
    stage(monkeypatch, "validate")
    return json.loads(METRICS.read_text()), (FOLDER / "queries.parquet").read_bytes()


def test_hubness_is_scored_beside_the_plain_ranking(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain scores and queries are unchanged; the adjusted table yields the adjusted scores by its own recipe."""
    plain, queries = validate(monkeypatch)
    assert list((FOLDER / "adjusted").iterdir()) == []
    assert "hubness" not in plain
    found, same = validate(monkeypatch, hubness={"beta": 20.0, "queries": None})
    assert same == queries
    hubness = found.pop("hubness")
    assert found == plain
    assert hubness.keys() == plain["stage1"].keys()
    assert hubness != {name: plain[name] for name in hubness}
    table = pq.read_table(FOLDER / "adjusted/hubness.parquet")
    own = pq.read_table(FOLDER / "queries.parquet")
    assert table.column_names == [name for name in own.column_names if not name.startswith("stage1_")]
    assert table.schema.metadata[RECIPE_KEY] == own.schema.metadata[RECIPE_KEY]
    ranks = table["rank"].to_pylist()
    assert hubness["recall_at5"] == pytest.approx(100 * sum(rank <= 5 for rank in ranks) / len(ranks))
    sampled, _ = validate(monkeypatch, hubness={"beta": 20.0, "queries": 3})
    assert sampled["hubness"] != hubness


def test_a_bank_of_other_weights_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(Path("data/train/demo_cirr/clip/best.pt"), stage=2, seed=1)
    with pytest.raises(SystemExit):
        validate(monkeypatch, hubness={"beta": 20.0, "queries": None})
    assert "the bank was built with other weights; build it again" in capsys.readouterr().err
    assert not METRICS.exists()
