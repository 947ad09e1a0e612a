"""Fixtures: the real data sets with drawn images, once per session, and a tiny checkpoint. Absent data skip."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from tests.helpers.checkpoints import write_checkpoint
from tests.real.folders import ABSENT, REAL, ROOT, draw

_SIZE = "8"
Call = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not REAL.is_dir():
        own = Path(__file__).parent
        for item in items:
            if item.path.is_relative_to(own):
                item.add_marker(pytest.mark.skip(reason=ABSENT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Draws a layout, which is removed after the tests of a file."""
    drawn: list[Path] = []

    def make(layout: str) -> Path:
        drawn.append(draw(layout, tmp_path_factory.mktemp("real") / layout, _SIZE))
        return drawn[-1]

    yield make
    for root in drawn:
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP of one layer per tower."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage1.pt")


@pytest.fixture
def call() -> Call:
    """Runs a command in this process; the result has stdout and stderr."""

    def run(*arguments: Any, status: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pipeline's settings, in which commands run."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path
