"""The clones in which the experiments of `make research` run."""

import subprocess
from pathlib import Path

import pytest

from demo.research.clones import Clones
from spn4cir.errors import InputError


def git(*arguments: str, folder: Path | None = None) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, text=True, capture_output=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with DVC and one commit, which is the current folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet")
    git("config", "user.name", "A. Researcher")
    git("config", "user.email", "a@example.org")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    Path("params.yaml").write_text("seed: 1\n")
    git("add", "-A")
    git("commit", "--quiet", "-m", "first")
    return folder


def test_a_clone_shares_the_cache_and_starts_from_the_commit(repository: Path, tmp_path: Path) -> None:
    """An experiment leaves its settings in the clone; the next one does not begin with them."""
    taken = Clones(tmp_path / "clones", 1)
    with taken.take() as clone:
        (clone / "params.yaml").write_text("seed: 2\n")
        (clone / "data.txt").write_text("kept")
    with taken.take() as again:
        assert again == clone
        assert (clone / "params.yaml").read_text() == "seed: 1\n"
        assert (clone / "data.txt").exists()
    found = subprocess.run(["dvc", "cache", "dir"], cwd=clone, text=True, capture_output=True, check=True).stdout
    assert Path(found.strip()) == repository / ".dvc/cache"
    assert git("config", "user.email", folder=clone) == "a@example.org\n"
    assert git("rev-parse", "HEAD", folder=clone) == git("rev-parse", "HEAD")


def test_the_small_models_of_an_experiment_are_those_of_the_next_one(repository: Path, tmp_path: Path) -> None:
    """The commit has those of another processor, which would be trained again."""
    files = (Path("demo/dvc.lock"), Path("metrics/demo/clip.json"))
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("committed")
    git("add", "-A")
    git("commit", "--quiet", "-m", "models")
    taken = Clones(tmp_path / "clones", 1)
    with taken.take() as clone:
        assert [(clone / file).read_text() for file in files] == ["committed"] * 2
        for file in files:
            (clone / file).write_text("trained")
        (clone / "params.yaml").write_text("seed: 2\n")
        git("commit", "--quiet", "-a", "-m", "experiment", folder=clone)
        git("update-ref", "refs/exps/first", "HEAD", folder=clone)
        git("reset", "--quiet", "--hard", "HEAD~1", folder=clone)
    git("fetch", "--quiet", str(clone), "+refs/exps/*:refs/exps/*")
    taken.keep_models(git("rev-parse", "refs/exps/first").strip())
    with taken.take() as clone:
        assert [(clone / file).read_text() for file in files] == ["trained"] * 2
        assert (clone / "params.yaml").read_text() == "seed: 1\n"


@pytest.mark.usefixtures("repository")
def test_changes_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    """The experiments would not contain them."""
    Path("params.yaml").write_text("seed: 3\n")
    with pytest.raises(InputError, match=r"params\.yaml: has changes that are not committed"):
        Clones(tmp_path / "clones", 1)


@pytest.mark.usefixtures("repository")
def test_results_of_the_research_are_no_changes(tmp_path: Path) -> None:
    for path in (Path("metrics/research/a.parquet"), Path("docs/research.md")):
        path.parent.mkdir(parents=True)
        path.write_text("old")
    git("add", "-A")
    git("commit", "--quiet", "-m", "results")
    Path("docs/research.md").write_text("new")
    Path("metrics/research/a.parquet").write_text("new")
    Clones(tmp_path / "clones", 1)
