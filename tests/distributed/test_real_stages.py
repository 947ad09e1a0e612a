"""The commands of both training stages in a tiny project: one process, two, a killed one, and a resumption."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from tests.distributed.test_equal_results import LOSS, STEPS
from tests.distributed.test_processes import ENVIRONMENT, ROOT, SECONDS_TO_END
from tests.helpers.layouts import write, write_cirr
from tests.helpers.open_clip_folders import wide_state, write_base

DATASET, FAMILY = "demo_cirr", "clip"
# The stages before stage 2, in order; `dedup` has no family.
BEFORE = ("bank", "gallery", "filter")
TRAININGS = ("checkpoint", "train")
# 24 triplets: three steps in an epoch.
BATCH, EPOCHS = 8, 7


@dataclass(frozen=True)
class Project:
    """A project of one data set of tiny images and one tiny network."""

    root: Path

    def copy(self, place: Path) -> "Project":
        shutil.copytree(self.root, place)
        return Project(place)

    def change(self, **machine: Any) -> None:
        """Changes settings of section `machine`."""
        yaml = YAML()
        params = yaml.load(self.root / "params.yaml")
        params["machine"].update(machine)
        yaml.dump(params, self.root / "params.yaml")

    def start(self, stage: str) -> subprocess.Popen[str]:
        """Starts the command of a stage, as in dvc.yaml."""
        items = {"code": [], "dedup": [DATASET]}.get(stage, [DATASET, FAMILY])
        command = [sys.executable, "-m", f"stages.{stage}", *items]
        return subprocess.Popen(
            command, cwd=self.root, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *stages: str) -> str:
        """Runs stages and returns the output of the last one."""
        for stage in stages:
            out, errors, status = ended(self.start(stage))
            assert status == 0, errors
        return out

    def out(self, stage: str) -> Path:
        return self.root / "data" / stage / DATASET / FAMILY

    def figures(self, stage: str, group: str) -> dict[str, list[float]]:
        """The values of each figure that a training stage wrote, one for each step or epoch."""
        return {path.stem: _values(path) for path in (self.out(stage) / "figures" / group).glob("*.tsv")}

    def kill_worker(self, stage: str, process: subprocess.Popen[str]) -> None:
        """Kills process 1 of a training as soon as its first epoch is stored."""
        while not list((self.root / "data" / "work" / stage).glob("*/*/state.pt")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        (worker,) = (each for each in psutil.Process(process.pid).children() if each.environ().get("RANK") == "1")
        os.kill(worker.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Waits for a stage; returns its output, its errors and its status."""
    try:
        out, errors = process.communicate(timeout=SECONDS_TO_END)
    finally:
        process.kill()
    return out, errors, process.returncode


def _values(path: Path) -> list[float]:
    return [float(line.split("\t")[1]) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def _settings(params: Any) -> None:
    """Selects the data set and sizes at which an epoch takes a fraction of a second."""
    params["run"].update(datasets=[DATASET], models=[FAMILY], submit=[], benchmarks=[])
    params["machine"].update(workers=0, device="cpu")
    params["checkpoint"][DATASET][FAMILY]["train"].update(batch_size=BATCH, epochs=EPOCHS)
    params["train"][DATASET][FAMILY].update(batch_size=BATCH, epochs=EPOCHS, positives="annotated")
    params["validate"][DATASET][FAMILY].update(batch_size=8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run all stages before `checkpoint`; nothing was generated."""
    project = Project(tmp_path_factory.mktemp("prepared") / "project")
    write_cirr(project.root / "data" / "raw" / DATASET, train_groups=4)
    (project.root / "data" / "models" / DATASET / "stage1").mkdir(parents=True)
    write_base(project.root / "data" / "models" / DATASET / "stage1" / FAMILY, wide_state())
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    _settings(params)
    yaml.dump(params, project.root / "params.yaml")
    write(project.root / "data" / "listing" / DATASET / f"{FAMILY}.json", {})
    project.out("triplets").mkdir(parents=True)
    project.run("code", "dedup")
    return project


@pytest.fixture(scope="module")
def alone(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after both trainings in one process each."""
    project = prepared.copy(tmp_path_factory.mktemp("alone") / "project")
    project.run("checkpoint", *BEFORE, "train")
    return project


def repeated(alone: Project, stage: str, place: Path) -> Project:
    """A copy without the results of a stage, set to two processes."""
    project = alone.copy(place)
    shutil.rmtree(project.out(stage))
    shutil.rmtree(project.root / "data" / "work" / stage)
    project.change(processes=2)
    return project


def assert_equal(project: Project, alone: Project, stage: str) -> None:
    """Losses within the tolerance of the trainings without a stage, and the same recalls in each epoch."""
    (losses,), (expected,) = (each.figures(stage, "steps").values() for each in (project, alone))
    assert len(expected) == 3 * EPOCHS >= STEPS
    assert losses == pytest.approx(expected, **LOSS)
    recalls = project.figures(stage, "scores")
    assert recalls == alone.figures(stage, "scores")
    assert all(len(values) == EPOCHS for values in recalls.values())
    weights = {path.name for path in alone.out(stage).iterdir()}
    assert {path.name for path in project.out(stage).iterdir()} == weights


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_stage_in_two_processes_writes_the_losses_and_recalls_of_one(
    alone: Project, tmp_path: Path, stage: str
) -> None:
    project = repeated(alone, stage, tmp_path / "project")
    out = project.run(stage)
    assert len(re.findall(r"^epoch \d+: ", out, re.MULTILINE)) == EPOCHS
    held = "machine.shard_bank: each of 2 processes holds all of the bank's targets\n"
    assert out.count(held) == (stage == "train")
    assert_equal(project, alone, stage)


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_killed_process_ends_the_stage_and_one_process_continues(alone: Project, tmp_path: Path, stage: str) -> None:
    project = repeated(alone, stage, tmp_path / "project")
    process = project.start(stage)
    project.kill_worker(stage, process)
    _, errors, status = ended(process)
    assert status == 1
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        "error: process 1 of the training was killed (SIGKILL); free memory if the machine ran out of it, and run the "
        "stage again: it continues after the last finished epoch"
    ]
    assert "Traceback" not in errors
    assert not project.out(stage).exists()
    project.change(processes=1)
    assert re.search(r"resumed after epoch \d", project.run(stage))
    assert_equal(project, alone, stage)
