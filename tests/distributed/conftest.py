"""Fixtures: short trainings, run once in two processes."""

from collections.abc import Callable
from functools import cache
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
    """The histories and first gradients of all trainings in two processes, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        start_processes(2, "tests.distributed.trainings", [str(folder), *trainings.NAMES])
    found: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return found


@pytest.fixture(scope="session")
def alone(folder: Path) -> Callable[[str], dict[str, Any]]:
    """Returns the history and the first gradients of a training in one process, which runs once."""
    return cache(lambda name: trainings.train_with_gradients(folder, name, folder / "alone" / name))
