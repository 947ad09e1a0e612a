"""Fixtures: the whole pipeline at a reduced size, in a fresh copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo.warm_python import warm_python
from tests.helpers.secrets import SECRETS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "OMP_WAIT_POLICY": "PASSIVE",
    **SECRETS,
}


@dataclass(frozen=True)
class Project:
    """A copy of the repository in which the pipeline runs."""

    root: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.root, env=ENVIRONMENT, capture_output=True, text=True, timeout=1800)
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def repro(self, *arguments: str) -> set[str]:
        """Runs `dvc repro`. Returns the stages that ran or came from the run cache."""
        out = self.run("dvc", "repro", *arguments).stdout
        return set(re.findall(r"^(?:Running|Restored) stage '([^']+)'", out, re.MULTILINE)) | set(
            re.findall(r"^Stage '([^']+)' is cached", out, re.MULTILINE)
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def edit(self, name: str, change: Callable[[dict], None]) -> None:
        """Changes a YAML file in place and keeps its comments."""
        yaml = YAML()
        content = yaml.load(self.root / name)
        change(content)
        yaml.dump(content, self.root / name)

    def clone(self, place: Path) -> "Project":
        self.run("git", "clone", "-q", str(self.root), str(place))
        return Project(place)

    def copy(self, place: Path) -> "Project":
        """Makes an independent copy, with cache and outs."""
        shutil.copytree(self.root, place, symlinks=True)
        return Project(place)


def shrink_demo(params: dict) -> None:
    """Sets sizes at which drawing and training take seconds; the quality of the models does not matter."""
    params["draw"]["demo_fiq"].update(
        train_images=40, train_triplets=30, duplicates=4, val_images=30, val_triplets=8, test_images=6, test_triplets=3
    )
    params["draw"]["demo_cirr"].update(
        train_groups=14,
        train_triplets=60,
        duplicates=6,
        val_groups=6,
        val_triplets=20,
        test1_groups=10,
        test1_triplets=12,
    )
    params["draw"]["demo_circo"].update(val_queries=8, test_queries=4)
    for pool in params["draw_pool"].values():
        pool.update(images=12)
    params["images"].update(train_per_kind=64, held_out_per_kind=32)
    params["clip"].update(steps=2, batch_size=16, measured_batch=10)
    params["captioner"].update(rounds=1, steps=60, kept_apart=16, batch_size=16)
    params["encoder"].update(steps=2, batch_size=16)


def shrink_root(params: dict) -> None:
    """Sets short trainings, and removes the data sets that no test runs: DVC reads all settings at each stage."""
    for section in params.values():
        for dataset in ("demo_emoji", "fiq", "cirr", "circo", "genecis"):
            if isinstance(section, dict):
                section.pop(dataset, None)
    for dataset in ("demo_fiq", "demo_cirr"):
        params["caption"][dataset]["max_new_tokens"] = 6
        windows = params["match"][dataset]["window"]
        for family in windows:
            windows[family] = windows[family] and [10, 30]
            params["checkpoint"][dataset][family]["train"].update(epochs=1, batch_size=16)
            params["train"][dataset][family].update(epochs=2, batch_size=16)


def copy_repository(place: Path) -> Project:
    """Copies the files that git would commit, without outs, and commits them in a new repository."""
    others = {
        name for name in _git_names("--others", "--exclude-standard") if not name.startswith(("data/", "metrics/"))
    }
    for name in sorted(_git_names("--cached") | others):
        source = ROOT / name
        if source.is_file() and not name.endswith("dvc.lock") and not name.startswith("metrics/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place / name, follow_symlinks=False)
    project = Project(place)
    project.run("git", "init", "-q", "-b", "main")
    project.edit("demo/params.yaml", shrink_demo)
    project.edit("params.yaml", shrink_root)
    project.commit("copy")
    return project


def _git_names(*kind: str) -> set[str]:
    listing = subprocess.run(["git", "ls-files", "-z", *kind], cwd=ROOT, capture_output=True, check=True).stdout
    return set(filter(None, listing.decode().split("\0")))


@pytest.fixture(scope="session", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stages, also those of DVC, and the commands start with the heavy libraries imported."""
    cold = ENVIRONMENT["PATH"]
    with warm_python(tmp_path_factory.mktemp("warm"), ("dvc", "spn4cir")) as folder:
        ENVIRONMENT["PATH"] = f"{folder}{os.pathsep}{cold}"
        yield
    ENVIRONMENT["PATH"] = cold


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A committed project after one `dvc repro`, and `repro.log` beside it. Tests copy it before they change it."""
    project = copy_repository(tmp_path_factory.mktemp("pipeline") / "project")
    # Decoding processes take longer to start than so few images to decode.
    project.edit("params.yaml", lambda params: params["machine"].update(workers=0))
    done = project.run("dvc", "repro")
    (project.root.parent / "repro.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    project.commit("dvc repro")
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project to change."""
    return finished.copy(tmp_path / "project")
