"""The whole DAG from drawn data, and the stages that a change reruns."""

import json
import shutil

import pyarrow.parquet as pq
from PIL import Image

from tests.helpers.secrets import holders
from tests.pipeline.conftest import ROOT, Project

FIQ_PAIR = {f"{stage}@demo_fiq-clip" for stage in ("train", "validate", "report")}
CIRR_PAIR = {f"{stage}@demo_cirr-clip" for stage in ("train", "validate", "report", "submit")}


def test_every_stage_writes_what_it_declares(finished: Project) -> None:
    """After one run the status is clean, and metrics, tables, sheets and submissions of both data sets exist."""
    status = finished.run("dvc", "status", "--json").stdout
    assert json.loads(status) == {}
    for dataset in ("demo_fiq", "demo_cirr"):
        metrics = json.loads((finished.root / "metrics" / dataset / "clip.json").read_text())
        assert {"protocol", "counts", "alternatives", "stage1"} <= metrics.keys()
        assert metrics.keys() >= metrics["stage1"].keys()
        table = pq.read_table(finished.root / "data/validate" / dataset / "clip/queries.parquet")
        assert table.num_rows == sum(metrics["counts"]["queries"].values())
        sheet = Image.open(finished.root / "data/validate" / dataset / "clip/contact_sheet.png")
        assert sheet.width > 800
        page = (finished.root / "data/report" / dataset / "clip.html").read_text()
        assert f"<h1>{dataset}, clip</h1>" in page
        assert len(page) < 10_000_000
    names = {path.name for path in (finished.root / "data/submit/demo_cirr/clip").iterdir()}
    assert names == {f"{kind}_submission_demo_cirr_clip.json" for kind in ("recall", "recall_subset")}


def test_a_second_run_does_nothing(finished: Project) -> None:
    assert finished.repro() == set()


def test_metrics_and_plots_are_registered(finished: Project) -> None:
    """`dvc metrics show` reads the scores, `dvc plots show` the curves of both training stages and the bars."""
    shown = json.loads(finished.run("dvc", "metrics", "show", "--json").stdout)
    assert "metrics/demo_fiq/clip.json" in json.dumps(shown)
    plots = json.loads(finished.run("dvc", "plots", "show", "--json").stdout)
    assert any("train/demo_fiq/clip/figures/steps/loss.tsv" in name for name in plots["data"])
    assert any("validate/demo_cirr/clip/recalls.tsv" in name for name in plots["data"])
    assert any("checkpoint/demo_fiq/clip/figures/epochs/temperature.tsv" in name for name in plots["data"])


def test_a_temperature_reruns_its_pair_alone(project: Project) -> None:
    """tau of one data set and family: its train, validate, report and submit, nothing else."""

    def change(params: dict) -> None:
        params["train"]["demo_cirr"]["clip"]["tau"] = 0.5

    project.edit("params.yaml", change)
    assert project.repro() == CIRR_PAIR


def test_a_caption_prompt_leaves_dedup_match_checkpoint_and_bank(project: Project) -> None:
    def change(params: dict) -> None:
        params["caption"]["demo_fiq"]["prompt"] = "please briefly describe the {noun} in {words} words now"

    project.edit("params.yaml", change)
    run = project.repro()
    assert "caption@demo_fiq" in run
    assert run <= {"caption@demo_fiq", "triplets@demo_fiq-clip", "filter@demo_fiq-clip"} | FIQ_PAIR


def test_a_filter_reruns_its_pair_from_there(project: Project) -> None:
    """Among the first K of K images every target is found, however stage 1 was trained.

    The training therefore repeats, and what scores its weights reruns only if these differ.
    """
    manifest = json.loads((project.root / "data/bank/demo_cirr/clip/manifest.json").read_text())

    def change(params: dict) -> None:
        params["filter"]["demo_cirr"]["clip"]["target_within"] = manifest["images"]

    project.edit("params.yaml", change)
    must = {f"{stage}@demo_cirr-clip" for stage in ("filter", "train", "report")}
    assert must <= project.repro() <= CIRR_PAIR | must
    counts = json.loads((project.root / "data/filter/demo_cirr/clip/counts.json").read_text())
    assert counts["kept"] == counts["triplets"] > 0
    assert counts["kept_texts"] == counts["texts"]


def test_a_benchmark_is_drawn_and_scored_once_it_is_named(project: Project) -> None:
    """Only its images are drawn and its own stage runs, with the existing trained weights."""
    project.edit("demo/params.yaml", lambda params: params["drawn"].append("demo_circo"))
    project.edit(
        "params.yaml", lambda params: params["run"]["benchmarks"].append({"name": "demo_circo", "weights": "demo_cirr"})
    )
    own = {f"{stage}@benchmark0-clip" for stage in ("benchmark_gallery", "benchmark")}
    assert project.repro() == {"code", "demo/dvc.yaml:draw@demo_circo"} | own
    metrics = json.loads((project.root / "metrics/demo_circo/clip.json").read_text())
    assert metrics["protocol"]["weights"] == "trained on demo_cirr"
    assert metrics.keys() >= {"map_at5", "map_at50", "stage1"}
    assert (project.root / "data/benchmark/demo_circo/clip/submission_test_demo_circo_clip.json").is_file()


def test_a_run_of_another_data_set_needs_no_demo_stage(project: Project) -> None:
    """If `run` names cirr alone, no stage of the demo is upstream."""

    def change(params: dict) -> None:
        params["run"].update(datasets=["cirr"], submit=["cirr"])

    shutil.copy(ROOT / "params.yaml", project.root)
    project.edit("params.yaml", change)
    (project.root / "data/raw/cirr").mkdir()
    for kind in ("captioner", "encoder", "stage1/clip", "baselines", "rerank"):
        (project.root / "data/models/cirr" / kind).mkdir(parents=True, exist_ok=True)
    graph = project.run("dvc", "dag", "dvc.yaml", "--dot").stdout
    assert "train@cirr-clip" in graph
    assert "demo" not in graph


def test_no_secret_of_the_environment_is_written(finished: Project) -> None:
    """Neither in the run's output nor in a file: data, metrics, reports, `dvc.lock`, and what DVC stores."""
    assert (finished.root / "data/report/demo_fiq/clip.html").is_file()
    assert "Running stage 'train@demo_fiq-clip'" in (finished.root.parent / "repro.log").read_text()
    assert holders(finished.root.parent) == []
