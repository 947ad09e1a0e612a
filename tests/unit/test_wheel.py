"""The package without a clone: what its wheel contains, and what is done with it in an environment of its own."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

import spn4cir
from spn4cir import Retriever
from spn4cir.projects.pipeline_files import FILES, copy_pipeline
from tests.helpers.layouts import draw
from tests.helpers.wheel import ROOT


def files(folder: Path) -> dict[str, bytes]:
    """The content of each file, without what Python and editors leave."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_wheel_contains_every_file_of_the_package_and_the_pipeline(unpacked):
    """Modules, and the data that they read: templates, styles, scripts, tables."""
    names = (*FILES, *(f"stages/{name}" for name in files(ROOT / "stages")))
    pipeline = {f"pipeline/{name}": (ROOT / name).read_bytes() for name in names}
    expected = files(ROOT / "spn4cir") | pipeline | {"params.yaml": (ROOT / "params.yaml").read_bytes()}
    assert {Path(name).suffix for name in expected} > {".py", ".html", ".css", ".js", ".json", ".md", ".toml"}
    assert files(unpacked / "spn4cir") == expected
    assert sorted(path.name.partition("-")[0] for path in unpacked.iterdir()) == ["spn4cir", "spn4cir"]


def test_its_script_is_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"spn4cir": "spn4cir.cli:main"}


def test_a_project_made_from_the_wheel_is_that_of_a_clone(unpacked, tmp_path):
    copy_pipeline(tmp_path / "project", unpacked / "spn4cir")
    copy_pipeline(tmp_path / "other")
    made = files(tmp_path / "project")
    assert made == files(tmp_path / "other")
    assert {"params.yaml", "dvc.yaml", ".gitignore", "stages/code.py", "spn4cir/report/page.html"} <= made.keys()


@pytest.fixture
def run(environment, tmp_path):
    """Runs a program of the environment in an empty folder, with only the variables that a user must have."""
    home = tmp_path / "home"
    home.mkdir()

    def run(program: str, *arguments: object) -> str:
        command = [environment / "bin" / program, *map(str, arguments)]
        variables = {"PATH": os.defpath, "HOME": str(home), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def test_it_is_imported_from_the_environment(run, environment):
    place = Path(run("python", "-c", "import spn4cir; print(spn4cir.__file__)").strip())
    assert place.is_relative_to(environment)
    assert run("spn4cir", "--version") == f"spn4cir {spn4cir.__version__}\n"


def test_it_searches_a_folder_with_a_pretrained_network(run, clip_folder, tmp_path):
    """With the hits that the repository's own code finds."""
    images = tmp_path / "images"
    for number in range(5):
        draw(images / f"{number}.png", number)
    network = f"local-dir:{clip_folder}"
    query = ("--gallery", images, "--image", images / "1.png", "--text", "is red")
    outs = ("--json", tmp_path / "hits.json", "--out", tmp_path / "sheet.png")
    run("spn4cir", "search", "--checkpoint", network, *query, *outs)
    hits = Retriever.from_pretrained(network, workers=0).index(images).search("1.png", "is red")
    found = json.loads((tmp_path / "hits.json").read_text())
    assert {hit["name"]: hit["score"] for hit in found["hits"]} == pytest.approx({hit.name: hit.score for hit in hits})
    assert (tmp_path / "sheet.png").is_file()


def test_its_commands_know_their_options_and_settings(run):
    assert "--annotations" in run("spn4cir", "train", "--help")
    assert "tau: 0.01" in run("spn4cir", "settings", "fiq", "clip")
