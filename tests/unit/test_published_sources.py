"""dedup, caption, triplets and checkpoint take published files by path and from the hub, and record the origin."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.load import load_params
from spn4cir.datasets.cirr import Cirr
from spn4cir.training.epoch_plan import triplet_rows
from stages.common import Job, run
from stages.inputs import training_triplets, unique_images
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.hub_server import REPOSITORY, Hub, point_at, serve
from tests.helpers.layouts import write, write_cirr

ROOT = Path(__file__).parents[2]
ELSEWHERE = "/another/machine/cirr"
SHARED = ("dedup", "caption")
# The path of each published file below the data set's root and in the repository.
FILES = {
    "dedup": "optimized_images.json",
    "caption": "mm_data/cirr/cirr_it_llava_8.json",
    "triplets": "cirr/captions/cap.rc2.train.extend_clip.json",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    write_cirr(root / "data" / "raw" / "demo_cirr")
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    return root


def change(edit: Callable[[dict], None]) -> None:
    yaml = YAML(typ="safe")
    content = yaml.load(Path("params.yaml"))
    edit(content)
    yaml.dump(content, Path("params.yaml"))


def stage(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    family = () if name in SHARED else ("clip",)
    monkeypatch.setattr(sys, "argv", [f"stages.{name}", "demo_cirr", *family])
    run(import_module(f"stages.{name}").main, ("DATASET",) if name in SHARED else ("DATASET", "FAMILY"))


def published(stage: str, root: Path) -> bytes:
    """A file as written on the authors' machine, whose paths do not exist here."""
    names = list(json.loads((root / "cirr/image_splits/split.rc2.train.json").read_text()))
    if stage == "dedup":
        value = [names, [f"{ELSEWHERE}/{n}.png" for n in names], {n: i for i, n in enumerate(names)}]
    elif stage == "caption":
        value = [{"image_id": n, "caption": f"image {n}", "image_path": f"{ELSEWHERE}/{n}.png"} for n in names]
    else:
        triplet = {"target_hard": names[1], "reference": names[0], "caption": ["is red"], "pairid": 0}
        value = [{**triplet, "img_set": {"members": ["xxx"]}, "caption1": "a", "caption2": "b"}]
    return json.dumps(value).encode()


def take(stage: str, source: str) -> Callable[[dict], None]:
    def edit(params: dict) -> None:
        params["hub"].update(repository=REPOSITORY)
        section = params[stage]["demo_cirr"]
        if stage == "triplets":
            section = section["clip"]
        section["source"] = source
        section["hub"] = "mm_data" if stage == "caption" else {"file": FILES[stage]}

    return edit


def outs(stage: str) -> tuple[Path, dict]:
    """The stage's out and the recorded origin."""
    folder = Path("data") / stage / "demo_cirr" / ("clip" if stage == "triplets" else "")
    origin = json.loads((folder / "source.json").read_text())
    name = Path(FILES[stage]).name
    return folder / name, origin[name] if stage == "caption" else origin


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("source", ["path", "hub"])
def test_a_published_file_is_taken_unchanged(
    project: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, source: str
) -> None:
    """A file with paths of another machine is accepted; its sha256 is recorded."""
    content = published(name, project / "data/raw/demo_cirr")
    if source == "path":
        place = project / "data/raw/demo_cirr" / FILES[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    commit = hub.publish({FILES[name]: content})
    point_at(monkeypatch, hub.endpoint, tmp_path / "cache")
    change(take(name, source))
    stage(monkeypatch, name)
    out, origin = outs(name)
    assert out.read_bytes() == content
    assert origin["sha256"] == hashlib.sha256(content).hexdigest()
    assert origin.get("commit") == (commit if source == "hub" else None)
    assert len(hub.downloads()) == (source == "hub")


@pytest.mark.parametrize("source", ["make", "path"])
def test_stages_agree_on_what_skip_leaves_out(project: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """An absent and a broken image have no row in the bank and occur in no triplet."""
    root = project / "data/raw/demo_cirr"
    (root / FILES["dedup"]).write_bytes(published("dedup", root))
    (root / "train/0/train-0-0-img1.png").unlink()
    broken = root / "train/1/train-1-0-img4.png"
    broken.write_bytes(broken.read_bytes()[:-40])

    def skip(params: dict) -> None:
        params["datasets"]["demo_cirr"]["missing"] = "skip"
        params["dedup"]["demo_cirr"]["source"] = source

    change(skip)
    write(Job(load_params(), "demo_cirr").code_file("dedup"), "")
    stage(monkeypatch, "dedup")
    job = Job(load_params(), "demo_cirr", "clip")
    unique, triplets = unique_images(job, "annotated"), training_triplets(job, "annotated", "annotated")
    assert len(unique.gallery) == 10
    assert len(triplets) == len(triplet_rows(triplets, unique.row, "").triplets) == 8
    assert all(path.is_file() and path.name != broken.name for path in unique.gallery.paths)
    assert json.loads((project / "data/dedup/demo_cirr/source.json").read_text())["source"] == source


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("source", ["path", "hub"])
def test_a_published_file_that_is_not_there(
    project: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    source: str,
) -> None:
    hub.publish({"something/else.json": b"[]"})
    point_at(monkeypatch, hub.endpoint, tmp_path / "cache")
    change(take(name, source))
    with pytest.raises(SystemExit) as ended:
        stage(monkeypatch, name)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert FILES[name] in line
    assert ("set source to make or hub" if source == "path" else "something/else.json") in line


def test_a_published_file_of_another_form_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FILES:
        write(project / "data/raw/demo_cirr" / FILES[name], [{"another": "form"}])
        change(take(name, "path"))
        with pytest.raises(SystemExit):
            stage(monkeypatch, name)
        assert Path(FILES[name]).name in capsys.readouterr().err
        assert not list((Path("data") / name).rglob("*.json"))


def test_blank_records_of_a_published_caption_file_are_counted_and_refuse_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads(published("caption", project / "data/raw/demo_cirr"))
    records[1]["caption"] = " "
    write(project / "data/raw/demo_cirr" / FILES["caption"], records)
    change(take("caption", "path"))
    stage(monkeypatch, "caption")
    out, origin = outs("caption")
    assert json.loads(out.read_text()) == records
    assert origin["empty"] == 1
    assert f"1 of {len(records)} images have an empty caption ({records[1]['image_id']})" in capsys.readouterr().err
    write(project / "data/raw/demo_cirr" / FILES["caption"], [{**record, "caption": ""} for record in records])
    with pytest.raises(SystemExit):
        stage(monkeypatch, "caption")
    assert f"{len(records)} of {len(records)} captions are empty" in capsys.readouterr().err


def test_a_published_first_stage_comes_from_the_hub(
    project: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only `checkpoint.<data set>.<family>.source: hub` is changed; the weights are those of the file."""
    weights = write_checkpoint(tmp_path / "w.pt")
    commit = hub.publish({"data/clip4cir/cirr_stage1.pt": weights.read_bytes()})
    point_at(monkeypatch, hub.endpoint, tmp_path / "cache")

    def edit(params: dict) -> None:
        params["hub"].update(repository=REPOSITORY)
        params["checkpoint"]["demo_cirr"]["clip"].update(
            source="hub", hub={"file": "data/clip4cir/cirr_stage1.pt", "sha256": None}
        )

    change(edit)
    (project / "data/models/demo_cirr/stage1/clip").mkdir(parents=True)
    stage(monkeypatch, "checkpoint")
    folder = Path("data/checkpoint/demo_cirr/clip")
    origin = json.loads((folder / "source.json").read_text())
    assert (origin["source"], origin["commit"]) == ("hub", commit)
    assert origin["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    ours, theirs = load_composer(folder / "stage1.pt"), load_composer(weights)
    pixels = torch.rand(2, 3, ours.preprocess.size, ours.preprocess.size)
    torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels))


def test_generated_triplets_by_path_are_resolved_by_name(project: Path) -> None:
    place = project / "data/raw/demo_cirr" / FILES["triplets"]
    place.write_bytes(published("triplets", project / "data/raw/demo_cirr"))
    layout = Cirr(project / "data/raw/demo_cirr", "error")
    (triplet,) = layout.read_generated(layout.names.triplets("clip"))
    assert layout.image_path(triplet.reference_name).is_file()
