"""The stage that scores trained weights on a benchmark, in a project of tiny files."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import stages.benchmark
import stages.benchmark_gallery
from spn4cir.comparison.runs import read_runs
from spn4cir.config.load import load_params
from spn4cir.datasets.circo import Circo
from spn4cir.errors import InputError
from spn4cir.evaluation.submission import check_submission
from spn4cir.images.preprocess import ImageFiles
from stages.common import Job
from tests.helpers.benchmarks import FIRST_ID, write_circo
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import change, write

ROOT = Path(__file__).parents[2]
HERE = Path("data/benchmark/demo_circo/clip")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_circo(tmp_path / "data/raw/demo_circo")
    write_checkpoint(tmp_path / "data/checkpoint/demo_cirr/clip/stage1.pt")
    write_checkpoint(tmp_path / "data/train/demo_cirr/clip/best.pt", stage=2, seed=1)
    write(tmp_path / "data/code/benchmark_gallery/demo_circo-clip.txt", {})
    params = load_params()
    machine = params.machine.model_copy(update={"workers": 0, "device": "cpu"})
    return Job(params.model_copy(update={"machine": machine}), "demo_circo", "clip", "demo_cirr")


def score(job: Job) -> None:
    """Runs the stage after the one that it reads."""
    stages.benchmark_gallery.main(job)
    stages.benchmark.main(job)


def test_it_writes_scores_queries_and_a_submission_that_passes(job: Job) -> None:
    score(job)
    content = json.loads(Path("metrics/demo_circo/clip.json").read_text())
    assert content["protocol"]["weights"] == "trained on demo_cirr"
    assert content["stage1"].keys() == {f"{kind}_at{k}" for kind in ("map", "recall") for k in (5, 10, 25, 50)}
    assert content["map_at10"] != content["stage1"]["map_at10"]
    assert content["counts"]["targets"] == {"val": {"1": 2, "2": 2, "3": 2}}
    table = pq.read_table(HERE / "queries.parquet")
    assert {"target_ranks", "stage1_rank", "stage1_target_ranks"} <= set(table.column_names)
    (run,) = read_runs("metrics/demo_circo/clip.json").values()
    assert run.recipe.keys() == content["stage1"].keys()
    assert run.ranks, "the table gives the scores of the file"
    layout = Circo(Path("data/raw/demo_circo"), "error")
    path = HERE / "submission_test_demo_circo_clip.json"
    assert check_submission(path, layout.submission, *layout.test_queries()).file.metric == "map"
    assert (HERE / "contact_sheet.png").is_file()


def test_without_test_queries_it_only_scores(job: Job) -> None:
    Path("data/raw/demo_circo/annotations/test.json").unlink()
    score(job)
    written = sorted(path.name for path in HERE.iterdir())
    assert written == ["contact_sheet.png", "queries.parquet", "recalls.tsv", "scored.json"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", json.loads((HERE / "scored.json").read_text())["date"])


@pytest.mark.parametrize("missing", ["skip", "error"])
def test_a_test_query_without_its_image_costs_the_submission_alone(
    job: Job, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If images may be missing; otherwise it is an error."""
    root = Path("data/raw/demo_circo")
    one = {"reference_img_id": 50 * FIRST_ID, "relative_caption": "has more", "shared_concept": "a dog", "id": 99}
    change(root / "annotations/test.json", lambda records: [*records, one])
    (root / f"COCO2017_unlabeled/unlabeled2017/{50 * FIRST_ID:012d}.jpg").unlink()
    own = job.params.benchmarks["demo_circo"].model_copy(update={"missing": missing})
    params = job.params.model_copy(update={"benchmarks": {"demo_circo": own}})
    if missing == "error":
        with pytest.raises(InputError, match="1 of 60 images are not on disk"):
            score(replace(job, params=params))
        return
    score(replace(job, params=params))
    assert json.loads(Path("metrics/demo_circo/clip.json").read_text())["counts"]["queries"] == {"val": 6}
    written = sorted(path.name for path in HERE.iterdir())
    assert written == ["contact_sheet.png", "queries.parquet", "recalls.tsv", "scored.json"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", json.loads((HERE / "scored.json").read_text())["date"])
    assert (
        "no file for the test server, which expects all queries: 1 lack an image, the first is 99"
        in capsys.readouterr().err
    )


def test_a_benchmark_without_settings_is_named(job: Job) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: benchmarks.unknown is not set"):
        stages.benchmark.main(Job(job.params, "unknown", "clip", "demo_cirr"))


def test_weights_that_are_not_there_are_named(job: Job) -> None:
    with pytest.raises(InputError, match=r"data/train/cirr/clip/best\.pt: no such checkpoint"):
        stages.benchmark.main(Job(job.params, "demo_circo", "clip", "cirr"))


def test_weights_with_the_image_side_of_stage_1_encode_no_image(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the queries with targets nor for those of the test server."""
    write_checkpoint(Path("data/train/demo_cirr/clip/best.pt"), stage=2)
    stages.benchmark_gallery.main(job)
    monkeypatch.setattr(ImageFiles, "__getitem__", lambda *_: pytest.fail("an image is encoded again"))
    stages.benchmark.main(job)
    assert (HERE / "submission_test_demo_circo_clip.json").is_file()
