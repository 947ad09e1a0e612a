"""Remotes, clones and queued experiments, as the README tells them."""

import json
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project


@pytest.fixture
def pushed(project: Project, tmp_path: Path) -> Project:
    """A project whose artifacts lie in a local remote."""
    project.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    project.commit("add a remote")
    project.run("dvc", "push")
    return project


def test_a_clone_pulls_and_reruns_nothing(pushed: Project, tmp_path: Path) -> None:
    clone = pushed.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.repro() == set()


def test_a_clone_without_raw_data_works_on_from_what_it_pulls(pushed: Project, tmp_path: Path) -> None:
    """With --allow-missing a clone that holds neither raw data nor models has nothing to rerun."""
    clone = pushed.clone(tmp_path / "clone")
    clone.run("dvc", "pull", "validate")
    run = clone.repro("--allow-missing")
    assert run == set()
    assert (clone.root / "data/validate/demo_fiq/clip/contact_sheet.png").is_file()
    assert not (clone.root / "data/raw/demo_fiq").exists()


def test_a_queued_experiment_runs_in_its_own_workspace(project: Project) -> None:
    """`dvc exp run --queue` right after a run: the experiment retrains its pair and reports its scores."""
    project.run("dvc", "exp", "run", "--queue", "-n", "warm", "-S", "train.demo_fiq.clip.tau=0.5")
    project.run("dvc", "queue", "start")
    deadline = time.monotonic() + 240
    status = ""
    while time.monotonic() < deadline:
        status = project.run("dvc", "queue", "status").stdout
        if "Success" in status or "Failed" in status:
            break
        time.sleep(2)
    logs = project.run("dvc", "queue", "logs", "warm", check=False).stdout
    project.run("dvc", "queue", "stop", check=False)
    assert "Success" in status, f"{status}\n{logs[-3000:]}"
    assert "Running stage 'train@demo_fiq-clip'" in logs
    assert "Running stage 'checkpoint@demo_fiq-clip'" not in logs
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    assert "warm" in json.dumps(shown)
