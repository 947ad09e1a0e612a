"""A folder in which the stages run on a drawn data set: their code, the settings, the data and tiny networks."""

import argparse
import shutil
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import CliRunner

from spn4cir.cli import app
from tests.helpers.checkpoints import write_checkpoint
from tests.real.models import write_encoder
from tests.scale.draw import WORDS, draw
from tests.scale.names import BATCH, DATASET, OWN, POOLED, ROOT
from tests.scale.steps import run

# A window that FAISS answers from the best entries of each row.
_WINDOW = [1, 100]


def make_workspace(place: Path, images: int) -> None:
    """Makes the folder; a folder that a killed run left is replaced."""
    shutil.rmtree(place, ignore_errors=True)
    project, drawn = place / "project", place / "drawn"
    draw(drawn / "data", drawn / "pool", images)
    project.mkdir(parents=True)
    for name in ("stages", "spn4cir"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, project / name)
    _begin_repository(project, place / "log.txt")
    _add_dataset(project, drawn)
    _choose(project / "params.yaml")
    models = project / "data" / "models" / DATASET
    write_encoder(models / "encoder" / "unicom.pt")
    for family in (OWN, POOLED):
        write_checkpoint(models / "stage1" / family / "stage1.pt")
    run(("python", "-m", "stages.code"), project, place / "log.txt")


def _begin_repository(project: Path, log: Path) -> None:
    """Makes a repository with a commit, which DVCLive needs.

    Within this repository, git ignores the links to the data, which `add-dataset` refuses.
    """
    author = ("-c", "user.name=scale", "-c", "user.email=scale@example.org")
    for command in (("init", "--quiet"), (*author, "commit", "--quiet", "--allow-empty", "--message", "scale")):
        run(("git", *command), project, log)


def _add_dataset(project: Path, drawn: Path) -> None:
    paths = ("--path", str(drawn / "data"), "--pool", str(drawn / "pool"))
    with chdir(project):
        done = CliRunner().invoke(
            app, ["add-dataset", DATASET, "--layout", "cirr", *paths, "--like", "demo_cirr", "--no-check"]
        )
    if done.exit_code:
        sys.exit(done.output)


def _choose(path: Path) -> None:
    """Selects the data set, published captions and weights, one epoch, and larger batches."""
    yaml = YAML()
    params: dict[str, Any] = yaml.load(path)
    params["run"].update(datasets=[DATASET], models=[OWN, POOLED], submit=[], benchmarks=[])
    params["caption"][DATASET].update(source="path", words={OWN: WORDS}, pool={POOLED: WORDS})
    params["match"][DATASET].update(batch_size=BATCH)
    for family in (OWN, POOLED):
        params["models"][DATASET]["stage1"][family] = {"local": "stage1.pt"}
        params["match"][DATASET]["window"][family] = _WINDOW
        params["checkpoint"][DATASET][family]["source"] = "path"
        params["bank"][DATASET][family]["batch_size"] = BATCH
        params["train"][DATASET][family].update(epochs=1, batch_size=BATCH)
    yaml.dump(params, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("images", type=int)
    arguments = parser.parse_args()
    make_workspace(arguments.place, arguments.images)
