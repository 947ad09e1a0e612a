"""The short form of lost workers and of pipes."""

from pathlib import Path

import pytest

from tests.faults.tiny import Tiny
from tests.faults.workers import lost_worker, pipe


@pytest.mark.parametrize("stage", ["dedup"])
def test_a_lost_worker_is_one_line_and_no_orphan(tiny: Tiny, tmp_path: Path, stage: str) -> None:
    assert lost_worker(tiny, tmp_path / "lost", stage, 1) == []


def test_a_pipe_in_place_of_annotations_is_one_line(tiny: Tiny, tmp_path: Path) -> None:
    assert pipe(tiny, tmp_path / "pipe", "dedup", "cirr/captions/cap.rc2.train.json") == []
