"""Images and arguments whose names are not UTF-8: reported, refused before any work, or left out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.load import published_file
from spn4cir.datasets import open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.datasets.protocol import Layout
from spn4cir.errors import InputError
from spn4cir.projects.check import check_data
from tests.helpers.layouts import draw, write_fashioniq, write_folder
from tests.helpers.pools import write_folders, write_tar

ROOT = Path(__file__).parents[2]
BAD = os.fsdecode(b"\xff")
ANNOTATED = {"annotations": "triplets.csv"}
REFUSED = r"f: contains 1 of 9 images whose names are not UTF-8, the first is 'mugs/\\udcff.png'; rename them"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight images with annotations, and one more whose name is not UTF-8."""
    folder = write_folder(tmp_path / "f", images=8)
    os.link(folder / "mugs/0.png", folder / f"mugs/{BAD}.png")
    return folder


def opened(root: Path, missing: str = "error", annotated: bool = True) -> Layout:
    return open_layout("folder", root, missing, ANNOTATED if annotated else {})


@pytest.mark.parametrize(
    "use",
    [
        lambda layout: layout.training_triplets(),
        lambda layout: layout.training_gallery(),
        lambda layout: layout.evaluation_splits(),
        lambda layout: layout.caption_images("split"),
    ],
)
def test_an_image_whose_name_is_not_utf8_is_refused(root: Path, use) -> None:
    with pytest.raises(InputError, match=REFUSED):
        use(opened(root))


def test_an_image_whose_name_is_not_utf8_is_left_out_and_counted(root: Path, capsys: pytest.CaptureFixture) -> None:
    layout = opened(root, "skip")
    assert {len(split.gallery) for split in layout.evaluation_splits()} == {8}
    assert len(layout.caption_images("split")) <= 8
    assert "f: left out 1 of 9 images whose names are not UTF-8, the first is" in capsys.readouterr().err
    assert len(opened(root, "skip", annotated=False).training_gallery()) == 8


@pytest.mark.parametrize("annotated", [True, False])
def test_check_data_reports_the_name(root: Path, annotated: bool) -> None:
    found = check_data(opened(root, annotated=annotated), 0)
    assert [(fault.name, fault.reason) for fault in found.broken] == [
        ("mugs/\\udcff.png", "has a name that is not UTF-8: rename it")
    ]
    json.dumps(found.as_dict(), ensure_ascii=False).encode()


def test_check_data_reports_the_name_beside_training_rows_alone(root: Path) -> None:
    (root / "triplets.csv").write_text("reference,target,text,split\nmugs/0.png,mugs/1.png,red,train\n")
    assert len(check_data(opened(root), 0).broken) == 1


def test_files_that_no_annotation_names_may_have_any_name(tmp_path: Path) -> None:
    root = write_fashioniq(tmp_path / "fashion")
    draw(root / "images" / f"{BAD}.png", 900)
    (root / "images" / f"a.{BAD}").touch()
    found = check_data(open_layout("fashioniq", root, "error"), 0)
    assert found.is_whole
    assert found.unlisted == ("images/\\udcff.png",)
    json.dumps(found.as_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize("form", ["folders", "tars"])
def test_an_image_of_the_pool_is_refused_or_left_out(form: str, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "pool", parts=(0,))
    (root / "00000" / f"{BAD}.jpg").write_bytes((root / "00000" / "000000000.jpg").read_bytes())
    if form == "tars":
        files = sorted((root / "00000").iterdir())
        root = tmp_path / "tars"
        root.mkdir()
        write_tar(root / "00000.tar", files)
    with pytest.raises(InputError, match=r"contains 1 of 4 images whose names are not UTF-8, the first is '.*udcff"):
        Cc3m(root, None, "error").images()
    assert len(Cc3m(root, None, "skip").images()) == 3


def test_check_data_ends_with_one(root: Path, tmp_path: Path) -> None:
    json_file = tmp_path / "c.json"
    call = ["check-data", "--layout", "folder", "--root", str(root), "--workers", "0", "--json", str(json_file)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 1, result.output
    assert json.loads(json_file.read_text())["ok"] is False


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["dedup", "--layout", "folder", "--root", BAD, "--out", "o.json"], "--root: '\\udcff'"),
        (["validate", "--json", f"{BAD}.json"], "--json: '\\udcff.json'"),
        (["index", "--checkpoint", f"{BAD}.pt"], "--checkpoint: '\\udcff.pt'"),
        (["search", f"--text=red {BAD}"], "--text: 'red \\udcff'"),
        (["export", "--to", "hub-folder", "--name", BAD], "--name: '\\udcff'"),
        (["check-data", BAD], "argument: '\\udcff'"),
        ([BAD], "argument: '\\udcff'"),
        ([f"--{BAD}=a"], "--\\udcff: 'a'"),
    ],
)
def test_an_argument_that_is_not_utf8_is_a_wrong_call(words: list[str], hint: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert f"Invalid value for {hint} is not UTF-8; write it in UTF-8, or rename" in result.stderr


def test_a_stage_of_a_name_that_is_not_utf8_ends_in_one_line(tmp_path: Path) -> None:
    shutil.copy(published_file(), tmp_path)
    call = [sys.executable, "-m", "stages.dedup", BAD]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(call, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "\\udcff" in done.stderr
