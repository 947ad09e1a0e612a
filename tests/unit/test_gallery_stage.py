"""The stage gallery: the stages after it decode no image for features, and their scores stay the same."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

import spn4cir.images.decoding
import stages.outcome
from spn4cir.files import file_hash
from stages.common import run
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write, write_cirr

ROOT = Path(__file__).parents[2]
METRICS = Path("metrics/demo_cirr/clip.json")
QUERIES = Path("data/validate/demo_cirr/clip/queries.parquet")
WEIGHTS = Path("data/train/demo_cirr/clip/best.pt")
SUBMISSION = Path("data/submit/demo_cirr/clip/recall_submission_demo_cirr_clip.json")
IMAGES = 12 + 54
GALLERIES = ("gallery", "submit_gallery")
# The stages that a change of stage 2's settings runs again, in their order.
SWEPT = ("train", "validate", "submit")


@dataclass
class Decoded:
    """Images that are decoded, apart from those that a contact sheet shows."""

    features: list[Path] = field(default_factory=list)
    shown: list[Path] = field(default_factory=list)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    """Counts the images that this process decodes; the stages decode in no other."""
    found, decode, draw = Decoded(), spn4cir.images.decoding._decode, stages.outcome.write_contact_sheet
    place = [found.features]

    def counted(path: Path) -> Image.Image | str:
        place[-1].append(path)
        return decode(path)

    def drawn(*args: Any) -> None:
        place.append(found.shown)
        draw(*args)
        place.pop()

    monkeypatch.setattr(spn4cir.images.decoding, "_decode", counted)
    monkeypatch.setattr(stages.outcome, "write_contact_sheet", drawn)
    return found


def change(edit: Callable[[Any], None]) -> None:
    yaml = YAML(typ="safe")
    content = yaml.load(Path("params.yaml"))
    edit(content)
    yaml.dump(content, Path("params.yaml"))


def set_temperature(tau: float) -> None:
    change(lambda params: params["train"]["demo_cirr"]["clip"].update(tau=tau))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A project with stage-1 weights and all that precedes the stage gallery; returns a function that runs stages."""
    monkeypatch.chdir(tmp_path)
    write_cirr(tmp_path / "data/raw/demo_cirr")
    shutil.copy(ROOT / "params.yaml", tmp_path)

    def small(params: Any) -> None:
        params["machine"].update(workers=0, device="cpu")
        params["shortcuts"]["demo_cirr"]["enabled"] = False
        params["train"]["demo_cirr"]["clip"].update(epochs=1, batch_size=4, positives="annotated")
        params["validate"]["demo_cirr"]["clip"].update(batch_size=5, sheet_queries=2)

    change(small)
    write_checkpoint(Path("data/checkpoint/demo_cirr/clip/stage1.pt"))
    for stage in ("bank", *GALLERIES, *SWEPT):
        write(Path(f"data/code/{stage}/demo_cirr-clip.txt"), {})
    write(Path("data/code/dedup/demo_cirr.txt"), {})
    write(Path("data/listing/demo_cirr/clip.json"), {})
    (tmp_path / "data/triplets/demo_cirr/clip").mkdir(parents=True)

    def run_stages(*names: str) -> None:
        for name in names:
            arguments = ["DATASET"] if name == "dedup" else ["DATASET", "FAMILY"]
            monkeypatch.setattr(sys, "argv", [name, "demo_cirr", "clip"][: 1 + len(arguments)])
            run(import_module(f"stages.{name}").main, arguments)

    run_stages("dedup", "bank", "filter")
    return run_stages


def test_a_sweep_decodes_no_image_for_features(project: Callable[..., None], decoded: Decoded) -> None:
    """The galleries have 12 and 54 images. Each contact sheet shows 2 queries: a reference and 5 results."""
    project(*GALLERIES)
    assert len(decoded.features) == IMAGES
    weights = set()
    for tau in (0.1, 0.5):
        set_temperature(tau)
        project(*SWEPT)
        weights.add(file_hash(WEIGHTS))
    assert len(decoded.features) == IMAGES
    assert len(decoded.shown) == 2 * 2 * (1 + 5)
    assert len(weights) == 2


def test_scores_are_those_of_an_encoding_in_each_stage(
    project: Callable[..., None], decoded: Decoded, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest of other weights is what a network with another image side finds: it encodes, and says so."""
    results = (METRICS, QUERIES, WEIGHTS, SUBMISSION)
    project(*GALLERIES, *SWEPT)
    stored = [path.read_bytes() for path in results]
    assert len(decoded.features) == IMAGES
    for stage in GALLERIES:
        manifest = Path("data", stage, "demo_cirr/clip/manifest.json")
        content = json.loads(manifest.read_text()) | {"weights": "0"}
        manifest.unlink()
        write(manifest, content)
    capsys.readouterr()
    project(*SWEPT)
    assert [path.read_bytes() for path in results] == stored
    assert len(decoded.features) == IMAGES + 2 * 12 + 54
    assert capsys.readouterr().err.count("clip: features of other weights; the images are encoded again") == 3


def test_stage_2_weights_of_another_image_side_are_encoded(project: Callable[..., None], decoded: Decoded) -> None:
    """The scores of stage 1 still come from the stored features."""
    project("gallery")
    write_checkpoint(WEIGHTS, stage=2, seed=1)
    project("validate")
    assert len(decoded.features) == 2 * 12
