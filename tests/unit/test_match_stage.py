"""The stage match: the families whose windows it computes, and the features that it keeps for other windows."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import stages.dedup
import stages.match
from spn4cir.config.load import load_params
from spn4cir.config.positives import Window
from spn4cir.errors import InputError
from spn4cir.positives.rank_samples import RankSamples, read_samples
from spn4cir.positives.unicom import Unicom, UnicomSizes
from stages.common import Job
from tests.helpers.layouts import write_cirr

ROOT = Path(__file__).parents[2]
WINDOWS: dict[str, Window | None] = {"clip": (400, 800), "tgcir": (0.25, 0.5), "zs": None}


class CountingUnicom(Unicom):
    """Counts the encoded images."""

    encoded = 0
    killed_at = -1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if CountingUnicom.encoded == CountingUnicom.killed_at:
            raise KeyboardInterrupt
        CountingUnicom.encoded += len(images)
        return super().forward(images)


def load(_: Path) -> Unicom:
    torch.manual_seed(0)
    return CountingUnicom(UnicomSizes(16, 8, 64, 1, 1, 64, 16, 8))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Data set demo_cirr after dedup: 24 images."""
    write_cirr(tmp_path / "data" / "raw" / "demo_cirr", train_groups=4)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    encoder = tmp_path / "data/models/demo_cirr/encoder/unicom.pt"
    encoder.parent.mkdir(parents=True)
    encoder.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages.match, "load_unicom", load)
    monkeypatch.setattr(CountingUnicom, "encoded", 0)
    params = load_params()
    machine = params.machine.model_copy(update={"workers": 0, "device": "cpu"})
    job = Job(params.model_copy(update={"machine": machine}), "demo_cirr")
    for stage in ("dedup", "match"):
        job.code_file(stage).parent.mkdir(parents=True)
        job.code_file(stage).touch()
    stages.dedup.main(job)
    return job


def match(job: Job, *models: str, **values: Any) -> set[tuple[Any, Any]]:
    """Runs the stage for the given families, and returns the windows in its out."""
    run = job.params.run.model_copy(update={"models": models})
    settings = job.params.match["demo_cirr"].model_copy(update={"window": WINDOWS} | values)
    stages.match.main(Job(job.params.model_copy(update={"run": run, "match": {"demo_cirr": settings}}), "demo_cirr"))
    rows = pq.read_table("data/match/demo_cirr/partners.parquet").to_pylist()
    return {(row["window_start"], row["window_end"]) for row in rows}


def test_windows_of_the_families_that_run_are_computed(job: Job) -> None:
    """The window of another family begins beyond the images; of 24 images, [0.25, 0.5] are the ranks 6 to 11."""
    assert match(job, "zs") == {(None, None)}
    assert CountingUnicom.encoded == 24
    assert match(job, "zs", "tgcir") == {(None, None), (6, 12)}
    assert CountingUnicom.encoded == 24, "a further family encodes nothing"
    with pytest.raises(InputError, match=r"window \[400, 800\] begins beyond the 24 images"):
        match(job, "clip")


def test_other_images_are_encoded_again(job: Job) -> None:
    match(job, "zs")
    next(Path("data/raw/demo_cirr/train").rglob("*.png")).touch()
    match(job, "zs")
    assert CountingUnicom.encoded == 48
    assert len(list(Path("data/work/match/demo_cirr").iterdir())) == 1, "what former images left is removed"


def test_a_stage_that_was_ended_resumes_after_its_last_batch(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("data/match/demo_cirr/partners.parquet")
    match(job, "zs", batch_size=8)
    whole = out.read_bytes()
    shutil.rmtree("data/work/match")
    monkeypatch.setattr(CountingUnicom, "encoded", 0)
    monkeypatch.setattr(CountingUnicom, "killed_at", 16)
    with pytest.raises(KeyboardInterrupt):
        match(job, "zs", batch_size=8)
    monkeypatch.setattr(CountingUnicom, "killed_at", -1)
    capsys.readouterr()
    match(job, "zs", batch_size=8)
    assert "match: resumed after 16 of 24 images\n" in capsys.readouterr().out
    assert CountingUnicom.encoded == 24
    assert out.read_bytes() == whole


def test_a_family_without_a_window_is_named(job: Job) -> None:
    with pytest.raises(
        InputError, match=r"match\.demo_cirr\.window\.blip is not set \(families there: clip, tgcir, zs\)"
    ):
        match(job, "blip")


def test_without_an_encoder_no_partners_are_found(job: Job) -> None:
    models = job.params.models["demo_cirr"].model_copy(update={"encoder": None})
    stages.match.main(Job(job.params.model_copy(update={"models": {"demo_cirr": models}}), "demo_cirr"))
    assert pq.read_table("data/match/demo_cirr/partners.parquet").num_rows == 0
    assert read_samples(Path("data/match/demo_cirr/ranks.json")) == RankSamples(24, ())
    assert CountingUnicom.encoded == 0
