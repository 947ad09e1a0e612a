"""The stage filter in a project of tiny files, and the triplets that the stage train takes from it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import spn4cir.checkpoints.published
import stages.bank
import stages.dedup
import stages.filter
import stages.train
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.json_files import read_json
from spn4cir.positives.listing import write_listing
from spn4cir.training.setup import TrainingSetup
from spn4cir.types import Triplet
from stages.common import Job
from tests.helpers.layouts import write, write_cirr
from tests.helpers.stub import StubComposer

ROOT = Path(__file__).parents[2]
OUT = Path("data/filter/demo_cirr/clip")
ENCODE = StubComposer.encode_image
NAMES = [f"train-0-0-img{number}" for number in range(6)]


def with_settings(job: Job, **values: Any) -> Job:
    """The job with other settings of its filter."""
    settings = job.params.filter["demo_cirr"]["clip"].model_copy(update=values)
    return Job(job.params.model_copy(update={"filter": {"demo_cirr": {"clip": settings}}}), job.dataset, job.family)


def write_generated(job: Job, *triplets: Triplet) -> None:
    layout = job.layout()
    records = [layout.generated_record(each, "a", "b") for each in triplets]
    write(job.place("triplets") / layout.names.triplets_name("clip"), records)


def reference_features(job: Job) -> Tensor:
    return torch.from_numpy(np.load(job.place("bank") / "reference.npy"))


def alike(job: Job) -> tuple[str, str]:
    """The images that are most and least like image 0."""
    features = reference_features(job)
    likeness = F.cosine_similarity(features[1:], features[:1])
    return NAMES[int(likeness.argmax()) + 1], NAMES[int(likeness.argmin()) + 1]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Data set demo_cirr with a bank of six images and three generated triplets; the network is a stub.

    The reference of the triplets is image 0 and the target the image most like it. So a text without a meaning finds
    the target with the reference, and by itself finds nothing: all images tie.
    """
    monkeypatch.chdir(tmp_path)
    write_cirr(tmp_path / "data/raw/demo_cirr", train_groups=1)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params = load_params()
    machine = params.machine.model_copy(update={"workers": 0, "device": "cpu"})
    job = Job(params.model_copy(update={"machine": machine}), "demo_cirr", "clip")
    for stage in ("dedup", "bank", "train"):
        write(job.code_file(stage), "")
    write(job.stage1_file, {})
    write(job.listing_file, {})
    network = StubComposer()
    for module in (stages.bank, stages.train, spn4cir.checkpoints.published):
        monkeypatch.setattr(module, "load_composer", lambda *_: network)
    stages.dedup.main(job)
    stages.bank.main(job)
    target, other = alike(job)
    network.meaning = {
        text: 100 * reference_features(job)[NAMES.index(name)]
        for text, name in (("as the target", target), ("as another", other))
    }
    write_generated(
        job,
        Triplet(NAMES[0], ("as the target", "as another", "no meaning"), target),
        Triplet(NAMES[0], ("as the target",), target),
        Triplet(NAMES[0], ("as another",), target),
    )
    network.encoded = 0
    monkeypatch.setattr(StubComposer, "encode_image", None)  # all features are those of the bank
    return job


def trained_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> tuple[Triplet, ...]:
    """The triplets that the stage train passes to the training."""
    seen: list[TrainingSetup] = []
    monkeypatch.setattr(stages.train, "train_stage2", lambda composer, bank, settings, setup, out: seen.append(setup))
    monkeypatch.setattr(stages.train, "write_figures", lambda *_: None)
    stages.train.main(job)
    return tuple(seen[0].triplets)


def texts_of(triplets: tuple[Triplet, ...]) -> list[tuple[str, ...]]:
    return [triplet.captions for triplet in triplets if triplet.generated]


def test_it_writes_a_table_and_counts_and_train_takes_what_is_kept(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = with_settings(job, target_within=1, text_within=1)
    capsys.readouterr()
    stages.filter.main(job)
    assert capsys.readouterr().out == (
        "filter: 1 of 3 generated triplets are kept (1 of 5 texts); 1 are wrong, 1 are shortcuts\n"
    )
    table = pq.read_table(OUT / "texts.parquet").to_pylist()
    assert [row["reason"] for row in table] == ["shortcut", "wrong", None, "shortcut", "wrong"]
    assert [(row["rank"], row["text_rank"]) for row in table][2:4] == [(1, 5), (1, 1)]
    assert read_json(OUT / "counts.json") == {
        "target_within": 1,
        "text_within": 1,
        "triplets": 3,
        "kept": 1,
        "wrong": 1,
        "shortcut": 1,
        "texts": 5,
        "kept_texts": 1,
    }
    triplets = trained_on(job, monkeypatch)
    assert texts_of(triplets) == [("no meaning",)]
    annotated = job.layout().training_triplets()
    assert triplets[: len(annotated)] == annotated


def test_one_condition_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.filter.main(with_settings(job, text_within=1))
    assert texts_of(trained_on(job, monkeypatch)) == [("as another", "no meaning"), ("as another",)]
    stages.filter.main(with_settings(job, target_within=1))
    assert texts_of(trained_on(job, monkeypatch)) == [("as the target", "no meaning"), ("as the target",)]


def test_without_a_condition_train_takes_all_triplets(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    stages.filter.main(job)
    assert capsys.readouterr().out == "filter: off, stage 2 uses all generated triplets\n"
    assert [path.name for path in OUT.iterdir()] == ["counts.json"]
    assert trained_on(job, monkeypatch) == stages.train.training_triplets(job, "both", "annotated")


def test_without_a_condition_nothing_is_read_and_torch_is_not_imported(job: Job) -> None:
    shutil.rmtree("data")
    script = (
        "import sys; sys.argv = ['x', 'demo_cirr', 'clip']; import stages.filter as s; from stages.common import run; "
        "run(s.main); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(ROOT)})
    assert read_json(OUT / "counts.json") == {"target_within": None, "text_within": None}


def test_triplets_of_a_listing_are_filtered(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes that learn only from generated triplets take them from the listing, as their bank does."""
    target, other = alike(job)
    listed = (Triplet(NAMES[0], ("as another", "as the target"), target), Triplet(NAMES[0], ("as another",), other))
    write_listing(listed, job.layout().image_path, job.listing_file)
    positives = job.params.train["demo_cirr"]["clip"].model_copy(update={"positives": "generated"})
    images = job.params.bank["demo_cirr"]["clip"].model_copy(update={"images": "generated"})
    sections = {"train": {"demo_cirr": {"clip": positives}}, "bank": {"demo_cirr": {"clip": images}}}
    job = with_settings(Job(job.params.model_copy(update=sections), job.dataset, job.family), target_within=1)
    monkeypatch.setattr(StubComposer, "encode_image", ENCODE)
    stages.bank.main(job)
    stages.filter.main(job)
    assert texts_of(trained_on(job, monkeypatch)) == [("as the target",), ("as another",)]


def test_a_filter_that_keeps_nothing_is_refused(job: Job) -> None:
    with pytest.raises(
        InputError,
        match=r"0 of 3 generated triplets are kept \(0 of 5 texts\); 0 are wrong, 3 are shortcuts; raise "
        r"filter\.demo_cirr\.clip\.target_within, lower filter\.demo_cirr\.clip\.text_within, or set them to null",
    ):
        stages.filter.main(with_settings(job, text_within=6))
    assert not OUT.exists()


def with_training(job: Job, **values: Any) -> Job:
    """The job with other settings of its stage 2."""
    settings = job.params.train["demo_cirr"]["clip"].model_copy(update=values)
    return Job(job.params.model_copy(update={"train": {"demo_cirr": {"clip": settings}}}), job.dataset, job.family)


def test_a_filter_without_generated_triplets_is_named_and_filters_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_generated(job)
    capsys.readouterr()
    stages.filter.main(with_settings(job, text_within=1))
    expected = "filter: no effect of filter.demo_cirr.clip, because there are no generated triplets\n"
    assert capsys.readouterr() == ("", expected)
    assert [path.name for path in OUT.iterdir()] == ["counts.json"]
    assert trained_on(job, monkeypatch) == job.layout().training_triplets()


def test_a_filter_of_triplets_that_stage_2_does_not_use_is_named_where_it_starts(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.filter.main(with_settings(job, target_within=1))
    capsys.readouterr()
    assert trained_on(with_training(job, positives="annotated"), monkeypatch) == job.layout().training_triplets()
    expected = "train: no effect of filter.demo_cirr.clip, because train.demo_cirr.clip.positives is annotated\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("positives", "names"),
    [
        ("annotated", "train.demo_cirr.clip.generated_loss and train.demo_cirr.clip.generated_weight"),
        ("generated", "train.demo_cirr.clip.generated_weight"),
        ("both", ""),
    ],
)
def test_settings_of_generated_triplets_without_effect_are_named_where_stage_2_starts(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], positives: str, names: str
) -> None:
    stages.filter.main(job)
    capsys.readouterr()
    trained_on(with_training(job, positives=positives, generated_loss="robust", generated_weight=0.5), monkeypatch)
    line = f"train: no effect of {names}, because train.demo_cirr.clip.positives is {positives}\n"
    assert capsys.readouterr().err == (line if names else "")


def test_the_published_settings_name_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.filter.main(job)
    capsys.readouterr()
    trained_on(with_training(job, positives="annotated"), monkeypatch)
    assert capsys.readouterr().err == ""
