"""Remotes and clones, as docs/remotes.md describes them."""

from pathlib import Path

import pytest

from tests.pipeline.conftest import Project


@pytest.fixture
def pushed(project: Project, tmp_path: Path) -> Project:
    """A project whose artifacts are in a local remote."""
    project.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    project.commit("add a remote")
    project.run("dvc", "push")
    return project


def test_a_clone_pulls_and_reruns_nothing(pushed: Project, tmp_path: Path) -> None:
    clone = pushed.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.repro() == set()


def test_a_clone_without_raw_data_works_on_from_what_it_pulls(pushed: Project, tmp_path: Path) -> None:
    """With --allow-missing a clone without raw data and models has nothing to rerun."""
    clone = pushed.clone(tmp_path / "clone")
    clone.run("dvc", "pull", "validate")
    run = clone.repro("--allow-missing")
    assert run == set()
    assert (clone.root / "data/validate/demo_fiq/clip/contact_sheet.png").is_file()
    assert not (clone.root / "data/raw/demo_fiq").exists()
