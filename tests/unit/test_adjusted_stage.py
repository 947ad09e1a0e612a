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

from spn4cir.checkpoints.published import save_tensors
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import RECIPE_KEY
from stages.code import second_family
from stages.common import Job, run
from tests.helpers import blip2
from tests.helpers.chat_server import MODEL, serve_chat
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write_cirr
from tests.helpers.words import WORDS

ROOT = Path(__file__).parents[2]
METRICS = Path("metrics/demo_cirr/clip.json")
FOLDER = Path("data/validate/demo_cirr/clip")
TABLES = ("queries.parquet", "adjusted/rerank.parquet")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with weights of both stages, a bank and a gallery."""
    root = tmp_path / "project"
    write_cirr(root / "data/raw/demo_cirr", val_groups=12)
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    change(lambda params: params["shortcuts"]["demo_cirr"].update(enabled=False))
    write_checkpoint(Path("data/checkpoint/demo_cirr/clip/stage1.pt"))
    write_checkpoint(Path("data/train/demo_cirr/clip/best.pt"), stage=2)
    code = [f"data/code/{name}/demo_cirr-clip.txt" for name in ("bank", "gallery")]
    for path in (*code, "data/code/dedup/demo_cirr.txt", "data/listing/demo_cirr/clip.json"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_text("{}")
    stage(monkeypatch, "dedup")
    stage(monkeypatch, "bank")
    stage(monkeypatch, "gallery")
    return root


def change(edit: Callable[[Any], None]) -> None:
    yaml = YAML(typ="safe")
    content = yaml.load(Path("params.yaml"))
    edit(content)
    yaml.dump(content, Path("params.yaml"))


def stage(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    names = ["DATASET"] if name == "dedup" else ["DATASET", "FAMILY"]
    monkeypatch.setattr(sys, "argv", [f"stages.{name}", "demo_cirr", "clip"][: 1 + len(names)])
    run(import_module(f"stages.{name}").main, names)


def validate(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[dict[str, Any], bytes]:
    """Runs the stage; returns its metrics and the plain table of queries."""
    change(lambda params: params["adjust"]["demo_cirr"]["clip"].update(settings))
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


def reranking(file: str, family: str = "blip2", top: int = 5) -> dict[str, Any]:
    return {"top": top, "by": {"weights": {"family": family, "file": file}}, "share": 1.0}


def test_another_family_reranks_beside_the_plain_ranking(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained BLIP-2 of tiny size: recall at the last reranked place is that of the plain ranking."""
    place = Path("data/models/demo_cirr/rerank/blip2.pt")
    place.parent.mkdir(parents=True)
    save_tensors(blip2.container(blip2.published_state(2), 2) | {"vocabulary": list(WORDS)}, place)
    plain, queries = validate(monkeypatch)
    found, same = validate(monkeypatch, rerank=reranking("blip2.pt"))
    assert same == queries
    scores = found.pop("rerank")
    assert found == plain
    assert [scores[f"recall_at{k}"] for k in (5, 10, 50)] == [plain[f"recall_at{k}"] for k in (5, 10, 50)]
    assert [path.name for path in (FOLDER / "adjusted").iterdir()] == ["rerank.parquet"]
    before, after = (pq.read_table(FOLDER / name)["top"].to_pylist() for name in TABLES)
    assert [sorted(row[:5]) for row in before] == [sorted(row[:5]) for row in after]
    assert [row[5:] for row in before] == [row[5:] for row in after]
    assert before != after


def test_weights_that_are_absent_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        validate(monkeypatch, rerank=reranking("absent.pt"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "data/models/demo_cirr/rerank/absent.pt: no such file of weights" in line
    assert "change adjust.demo_cirr.clip.rerank in params.yaml" in line


def test_weights_that_are_absent_stop_the_first_stage_of_all(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage that reads them is the last, after hours of training."""
    change(lambda params: params["adjust"]["demo_cirr"]["clip"].update(rerank=reranking("absent.pt")))
    with pytest.raises(SystemExit):
        stage(monkeypatch, "dedup")
    assert "data/models/demo_cirr/rerank/absent.pt: no such file of weights" in capsys.readouterr().err


OUTSIDE = {"by": {"weights": {"family": "blip2", "file": "../best.pt"}}}


@pytest.mark.parametrize(
    "setting", [{"top": 51}, {"top": 1}, {"share": 0}, {"by": {"weights": {"file": "x"}}}, OUTSIDE]
)
def test_a_setting_out_of_range_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: dict[str, Any]
) -> None:
    with pytest.raises(SystemExit):
        validate(monkeypatch, rerank=reranking("x.pt") | setting)
    assert "adjust.demo_cirr.clip.rerank" in capsys.readouterr().err


def test_the_code_of_the_stage_contains_the_family_that_reranks(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An edit of that family reruns the stage; an unknown family is refused."""
    job = Job(load_params(), "demo_cirr", "clip")
    assert second_family(job) == frozenset()
    change(lambda params: params["adjust"]["demo_cirr"]["clip"].update(rerank=reranking("x.pt")))
    job = Job(load_params(), "demo_cirr", "clip")
    assert second_family(job) == {"spn4cir.composers.blip2"}
    change(lambda params: params["adjust"]["demo_cirr"]["clip"].update(rerank=reranking("x.pt", "blip3")))
    with pytest.raises(InputError, match=r"rerank.by.weights.family: family 'blip3' is not known; choose one of: clip"):
        second_family(Job(load_params(), "demo_cirr", "clip"))


def test_a_served_model_reranks_and_its_answers_are_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    by = {"served": "judge", "model": MODEL, "prompt": "Is the second the first, but {text}?"}
    with serve_chat() as chat:
        chat.logprobs = {"Yes": -0.5, "No": -1.0}
        change(lambda params: params["machine"]["endpoints"].update(judge=[chat.url]))
        found, _ = validate(monkeypatch, rerank={"top": 2, "by": by, "share": 1.0})
        asked = len(chat.requests)
        assert asked > 0
        again, _ = validate(monkeypatch)
        assert len(chat.requests) == asked
    assert found == again
    # All answers are equal, so that the plain order stays.
    assert {name: found[name] for name in found["rerank"]} == found["rerank"]
    assert len(Path("data/work/validate/demo_cirr-clip/rerank.jsonl").read_text().splitlines()) == asked


def test_an_endpoint_that_the_settings_lack_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by = {"served": "judge", "model": "m", "prompt": "{text}?"}
    with pytest.raises(SystemExit):
        validate(monkeypatch, rerank={"top": 2, "by": by, "share": 1.0})
    expected = "adjust.demo_cirr.clip.rerank.by.served: 'judge' is not in machine.endpoints"
    assert expected in capsys.readouterr().err
