"""The files that other programs read, byte for byte: the stages' output for tiny roots equals the committed files.

`UPDATE_GOLDEN=1 pytest tests/golden` writes the expected files again; read the difference before you commit it.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages.dedup
import stages.triplets
from spn4cir.config.params import Dataset, Params
from spn4cir.datasets import submittable
from spn4cir.datasets.cirr import Cirr
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.evaluation.submission import predict, write_submission
from spn4cir.json_files import write_json
from spn4cir.positives.dedup import read_optimized_images
from spn4cir.positives.partners import Partners, write_partners
from stages.common import Job
from tests.conftest import CPU
from tests.helpers.layouts import change, write, write_cirr, write_fashioniq, write_folder
from tests.helpers.params import published_params
from tests.helpers.stub import StubComposer

EXPECTED = Path(__file__).parent


@pytest.fixture(params=["fiq", "cirr", "folder"])
def job(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Makes a workspace with a drawn root and the published settings; one training image is a copy of another."""
    monkeypatch.chdir(tmp_path)
    root = Path("data/raw") / request.param
    if request.param == "fiq":
        write_fashioniq(root, images=12)
        shutil.copy(root / "images/dress-train-0.png", root / "images/dress-train-2.png")
    elif request.param == "folder":
        write_folder(root, images=12)
        shutil.copy(root / "mugs/0.png", root / "mugs/2.png")
    else:
        write_cirr(root, train_groups=1, val_groups=1)
        change(root / "cirr/captions/cap.rc2.train.json", lambda records: records[:3])
        shutil.copy(root / "train/0/train-0-0-img0.png", root / "train/0/train-0-0-img2.png")
    own = Dataset(layout="folder", missing="error", pool=None, annotations="triplets.csv")
    return Job(with_dataset(published_params(), "folder", own), request.param, "clip")


def with_dataset(params: Params, name: str, dataset: Dataset) -> Params:
    """Adds a data set with the settings of fiq."""
    sections = ("caption", "dedup", "match", "triplets", "checkpoint", "bank", "validate_")
    copied = {section: {**getattr(params, section), name: getattr(params, section)["fiq"]} for section in sections}
    return params.model_copy(update={"datasets": {**params.datasets, name: dataset}, **copied})


def assert_golden(written: Path, job: Job, name: str) -> None:
    expected = EXPECTED / job.dataset / name
    if os.environ.get("UPDATE_GOLDEN"):
        expected.parent.mkdir(exist_ok=True)
        shutil.copyfile(written, expected)
    assert written.read_bytes() == expected.read_bytes()


def dedup(job: Job, code: str = "") -> None:
    params = job.params.model_copy(
        update={"machine": job.params.machine.model_copy(update={"device": "cpu", "workers": 0})}
    )
    own = Job(params, job.dataset)
    write(own.code_file("dedup"), code)
    stages.dedup.main(own)


def test_optimized_images(job: Job) -> None:
    """Kept names, their paths, and a row for every name; a copy has the row of the first one."""
    dedup(job)
    assert_golden(job.dedup_file, job, "optimized_images.json")


def test_dedup_decodes_changed_data_again(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """Not what an equal run has decoded; also after a change of the settings or of the code."""
    dedup(job)
    copies = len(read_optimized_images(job.dedup_file, job.layout().image_path).gallery)
    dedup(job)
    assert "resumed after" in capsys.readouterr().out
    first = next(iter(job.layout().training_gallery().paths))
    Image.new("RGB", (9, 7), "blue").save(first)
    dedup(job)
    assert "resumed after" not in capsys.readouterr().out
    assert len(read_optimized_images(job.dedup_file, job.layout().image_path).gallery) == copies + 1
    own = job.params.datasets[job.dataset].model_copy(update={"missing": "skip"})
    dedup(replace(job, params=job.params.model_copy(update={"datasets": {job.dataset: own}})))
    assert "resumed after" not in capsys.readouterr().out
    dedup(job, code="other")
    assert "resumed after" not in capsys.readouterr().out


def test_generated_triplets(job: Job) -> None:
    """The partner of each image is the next one; a text that is too long for CLIP falls back."""
    dedup(job)
    layout = job.layout()
    gallery = read_optimized_images(job.dedup_file, layout.image_path).gallery
    count = len(gallery)
    window = job.params.match[job.dataset].window["clip"]
    rows = np.arange(count)
    found = Partners(window, rows, (rows + 1) % count, np.full(count, 10_000), np.full(count, 0.5, dtype=np.float32))
    write_partners([found], gallery, job.shared("match") / "partners.parquet")
    captions = [
        {"image_id": name, "caption": "very " * (70 * (place == 2)) + f"a garment, number {place}", "image_path": "/x"}
        for place, name in enumerate(gallery.names)
    ]
    words = job.params.caption[job.dataset].words["clip"]
    write(job.shared("caption") / layout.names.captions_name(words), captions)
    stages.triplets.main(job)
    assert_golden(job.place("triplets") / layout.names.triplets_name("clip"), job, layout.names.triplets_name("clip"))


def test_metrics(job: Job) -> None:
    """Scores of a network of mean colours, with protocol, counts and alternatives."""
    layout, settings, stub = job.layout(), job.params.validate_[job.dataset]["clip"], StubComposer()
    splits = layout.evaluation_splits()
    images = encode_splits(stub, splits, settings, 0, CPU)
    content = metrics_file(evaluate(stub, layout, splits, images, settings, CPU), layout, settings, stub)
    write_json(Path("metrics.json"), content, indent=2)
    assert_golden(Path("metrics.json"), job, "metrics.json")


def test_submission(job: Job) -> None:
    if job.dataset != "cirr":
        pytest.skip("FashionIQ has no server, nor have one's own images")
    split = submittable("cirr", job.layout()).test_split()
    found = predict(StubComposer(), split, Cirr.submission, job.params.validate_["cirr"]["clip"], 0, CPU)
    for path in write_submission(found, Cirr.submission, Path("out"), "golden", split.triplets, split.gallery.names):
        assert_golden(path, job, path.name)


def test_expected_files_have_the_published_keys() -> None:
    """The forms of records that the original code reads, written out to detect a mistake in an update."""
    fiq = json.loads((EXPECTED / "fiq/cap.extend_clip.train.json").read_text())
    assert {tuple(record) for record in fiq} == {("target", "candidate", "captions", "caption1", "caption2")}
    cirr = json.loads((EXPECTED / "cirr/cap.rc2.train.extend_clip.json").read_text())
    keys = ("target_hard", "reference", "caption", "pairid", "img_set", "caption1", "caption2")
    assert {tuple(record) for record in cirr} == {keys}
    assert all(record["pairid"] == 0 and record["img_set"] == {"members": ["xxx"]} for record in cirr)
    own = json.loads((EXPECTED / "folder/cap.extend_clip.train.json").read_text())
    assert {tuple(record) for record in own} == {("reference", "target", "captions", "caption1", "caption2")}
    names, paths, row = json.loads((EXPECTED / "fiq/optimized_images.json").read_text())
    assert (len(names), len(paths), len(row), row["dress-train-2"]) == (35, 35, 36, 0)
