"""The stage that scores pretrained networks without training, in a project of tiny files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stages.baselines
from spn4cir.composers.compositions import COMPOSITIONS, RuleComposer
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.projects.models import add_models
from stages.common import Job
from tests.helpers.layouts import write_fashioniq

ROOT = Path(__file__).parents[2]
METRICS = Path("metrics/demo_fiq/baselines.json")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> Job:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_fashioniq(tmp_path / "data/raw/demo_fiq")
    shutil.copytree(clip_folder, tmp_path / "data/models/demo_fiq/baselines/clip")
    params = load_params()
    machine = params.machine.model_copy(update={"workers": 0, "device": "cpu"})
    return Job(params.model_copy(update={"machine": machine}), "demo_fiq")


def with_settings(job: Job, **values: Any) -> Job:
    """The job with other settings of its data set."""
    settings = job.params.baselines["demo_fiq"].model_copy(update=values)
    return Job(job.params.model_copy(update={"baselines": {"demo_fiq": settings}}), job.dataset)


def test_it_writes_the_scores_of_each_rule_from_one_encoding(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = RuleComposer.encode_image
    monkeypatch.setattr(
        RuleComposer, "encode_image", lambda self, images: encoded.append(len(images)) or encode(self, images)
    )
    stages.baselines.main(job)
    (network,) = json.loads(METRICS.read_text()).items()
    assert network[0] == "local-dir:clip"
    assert list(network[1]) == [*COMPOSITIONS, "protocol", "weights"]
    assert {"average_recall_at10", "dress_recall_at50"} <= network[1]["text"].keys()
    assert network[1]["protocol"]["reference"] == "removed from the ranking"
    assert network[1]["weights"]["name"] == "local-dir:clip"
    images = {path for split in job.layout().evaluation_splits() for path in split.places.values()}
    assert sum(encoded) == len(images)


def test_the_protocol_is_that_of_the_settings(job: Job) -> None:
    stages.baselines.main(with_settings(job, remove_reference=False))
    content = json.loads(METRICS.read_text())["local-dir:clip"]
    assert content["protocol"]["reference"] == "kept in the ranking"


def test_without_networks_torch_is_not_imported(job: Job) -> None:
    """The data are not read either."""
    shutil.rmtree("data")
    text = Path("params.yaml").read_text().replace("networks:\n      - local-dir:clip", "networks: []")
    Path("params.yaml").write_text(text)
    script = (
        "import sys; sys.argv = ['x', 'demo_fiq']; import stages.baselines as s; from stages.common import run; "
        "run(s.main, ('DATASET',)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(ROOT)})
    assert json.loads(METRICS.read_text()) == {}


def test_without_annotated_queries_nothing_is_scored(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(job.layout()), "evaluation_splits", lambda self: ())
    stages.baselines.main(job)
    assert json.loads(METRICS.read_text()) == {}
    assert "demo_fiq has no annotated queries, so nothing is scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ("local-dir:absent", r"data/models/demo_fiq/baselines/absent: no such folder"),
        ("best.pt", r"'best\.pt': is no name of a pretrained network"),
    ],
)
def test_a_network_that_cannot_be_loaded_is_named_and_nothing_is_written(job: Job, network: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        stages.baselines.main(with_settings(job, networks=(network,)))
    assert not METRICS.exists()


def test_add_dataset_copies_local_networks_or_asks_for_them(job: Job) -> None:
    params = job.params
    added = params.model_copy(
        update={key: {"mine": getattr(params, key)["demo_fiq"]} for key in ("models", "baselines")}
    )
    models = Path("data/models")
    remarks = list(add_models(models, added, "mine", "demo_fiq", ("clip",)))
    assert not [remark for remark in remarks if "baselines" in remark]
    assert (models / "mine/baselines/clip/open_clip_config.json").is_file()
    shutil.rmtree(models)
    remarks = list(add_models(models, added, "mine", "x", ("clip",)))
    assert any("put the network clip into data/models/mine/baselines" in remark for remark in remarks)
    assert (models / "mine/baselines/PLACEHOLDER.md").is_file()
