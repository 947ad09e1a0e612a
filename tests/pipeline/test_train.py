"""spn4cir train: one command from a folder of images to a checkpoint, and the commands that it prints."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import torch

from spn4cir.positives.unicom import Unicom, UnicomSizes
from tests.helpers.layouts import draw, write_folder
from tests.helpers.tiny_llava import save_tiny_llava
from tests.pipeline.conftest import ENVIRONMENT, Project

PRINTED = re.compile(r"^  ((?:spn4cir|dvc|cd) .*)$", re.MULTILINE)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def serve(command: str, folder: Path) -> str:
    """Runs the printed command on a free port, until it says where it serves."""
    words = [*shlex.split(command), "--port", "0"]
    with subprocess.Popen(
        words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            return next(line for line in server.stdout if "http://127.0.0.1:" in line)
        finally:
            server.terminate()


def test_one_command_trains_on_annotations_and_what_it_prints_works(tmp_path: Path, clip_folder: Path) -> None:
    """Without a captioner and an encoder: no caption, no partner and no triplet is made."""
    shop = write_folder(tmp_path / "my shop")
    before = tree(shop)
    here = Project(tmp_path)
    command = ("spn4cir", "train", "my shop", "--annotations", "my shop/triplets.csv", "--epochs", "1")
    command = (*command, "--base", f"local-dir:{clip_folder}")
    out = here.run(*command).stdout
    assert "training    30 triplets, 31 images" in out
    assert "match.my_shop.window.clip: [0.4, 0.8] instead of [10000, 20000], which begins beyond the 31" in out
    assert tree(shop) == before
    project = tmp_path / "my_shop-spn4cir"
    assert json.loads((project / "data/caption/my_shop/source.json").read_text()) == {}
    assert json.loads((project / "data/triplets/my_shop/clip/cap.extend_clip.train.json").read_text()) == []
    page = (project / "data/report/my_shop/clip.html").read_text(encoding="utf-8")
    assert "No partners were searched" in page
    assert '<th scope="colgroup" colspan="3">local-dir:base</th>' in page
    baselines = json.loads((project / "metrics/my_shop/baselines.json").read_text())
    assert {"text", "image", "sum"} <= baselines["local-dir:base"].keys()
    for label in ("checkpoint", "report", "scores"):
        assert (tmp_path / re.search(rf"^{label} +(.*)$", out, re.MULTILINE)[1]).is_file()
    assert "\n            10 queries are too few for a conclusion (fewer than 50)" in out
    search, served, *others = PRINTED.findall(out.partition("Search:")[2])
    here.run("bash", "-euo", "pipefail", "-c", search)
    assert (tmp_path / "my_shop-found.png").is_file()
    assert "http://" in serve(served, tmp_path)
    here.run("bash", "-euo", "pipefail", "-c", "\n".join(others))
    assert (project / "compare.html").is_file()
    _links_stay_links_in_the_experiment(Project(project))
    assert "continues" in (again := here.run(*command).stdout)
    assert "Running stage" not in again


def _links_stay_links_in_the_experiment(project: Project) -> None:
    """Images and weights behind links are not committed."""
    named = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (experiment,) = (name for name in named if name.endswith("/warmer"))
    listed = [project.run("git", "ls-tree", "-r", "--name-only", each).stdout for each in ("HEAD", experiment)]
    assert listed[0] == listed[1]
    assert "data/raw/my_shop\n" in listed[0]


def test_one_command_trains_on_images_alone(tmp_path: Path, clip_folder: Path) -> None:
    """A second call with another folder is refused."""
    for name, first in (("flags", 0), ("others", 100)):
        for number in range(first, first + 40):
            draw(tmp_path / name / f"{number}.png", number)
    save_tiny_llava(tmp_path / "llava")
    torch.manual_seed(0)
    torch.save(Unicom(UnicomSizes(16, 8, 64, 1, 1, 64, 16, 8)).state_dict(), tmp_path / "unicom.pt")
    here = Project(tmp_path)
    models = ("--base", f"local-dir:{clip_folder}", "--captioner", "llava", "--encoder", "unicom.pt", "--out", "p")
    out = here.run("spn4cir", "train", "flags", *models, "--epochs", "1").stdout
    assert "positives   generated triplets: captions by llava, partners by unicom.pt" in out
    metrics = json.loads((tmp_path / "p/metrics/flags/zs.json").read_text())
    assert metrics["protocol"]["family"] == "zs"
    assert json.loads((tmp_path / "p/metrics/flags/baselines.json").read_text()) == {}
    assert (tmp_path / "p/data/train/flags/zs/best.pt").is_file()
    refused = here.run("spn4cir", "train", "others", *models, check=False)
    assert refused.returncode == 1
    assert re.fullmatch(r"error: p: is a project of .*flags; give another --out\n", refused.stderr)
