"""Fixtures: short trainings, run once in two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spn4cir.parallel.launch import start_processes
from tests.distributed import trainings


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, networks and banks."""
    place = tmp_path_factory.mktemp("trainings")
    trainings.prepare(place)
    return place


@pytest.fixture(scope="session")
def together(folder: Path) -> dict[str, Any]:
    """The histories of all trainings in two processes, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        start_processes(2, "tests.distributed.trainings", [str(folder), *trainings.NAMES])
    found: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return found
