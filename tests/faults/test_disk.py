"""The short form of the full disk: one point in the middle, and whether its checks can fail."""

from pathlib import Path

import pytest

from tests.faults.disk import full, may_mount, mounted, used
from tests.faults.tiny import Tiny


@pytest.fixture(autouse=True)
def _mounts(tmp_path: Path) -> None:
    if not may_mount(tmp_path / "probe"):
        pytest.skip("mounting is not allowed here")


def test_a_full_disk_is_a_clear_line_and_the_run_ends_well_with_room(tiny: Tiny, tmp_path: Path) -> None:
    size = (used(tiny.fresh) + used(tiny.whole)) // 2
    assert full(tiny, tmp_path / "disk", size) == []


def test_a_disk_that_does_not_fill_is_found(tiny: Tiny, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1 << 30) as disk:
        root = tiny.copy(disk / "project", finished=True)
        found = tiny.not_refused(root, tiny.run(root, ("true",)), "No space left")
    assert found[0].startswith("ended with status 0")
