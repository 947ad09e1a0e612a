"""The short form of the environments: those that broke programs before, and whether the checks can fail."""

from pathlib import Path

import pytest

from tests.faults.campaign import Skipped, count
from tests.faults.environments import TABLE, shell, tried
from tests.faults.report import Row
from tests.faults.tiny import Tiny

SHORT = ["`LC_ALL=C`, without UTF-8 mode", "annotations cut, and whole again"]


@pytest.mark.parametrize("name", SHORT)
def test_an_environment_that_breaks_programs_works(tiny: Tiny, tmp_path: Path, name: str) -> None:
    assert tried(TABLE[name], tiny, tmp_path / "trial") == []


def test_a_run_that_fails_is_found(tiny: Tiny, tmp_path: Path) -> None:
    (found,) = tried(shell("echo odd; exit 3"), tiny, tmp_path / "trial")
    assert found == "ended with 3: odd"


def test_trials_are_counted_by_kind_and_what_cannot_be_tried_is_named() -> None:
    faults: list[str] = []
    trials = [("a", []), ("a", ["odd"]), ("b", Skipped("no mount"))]
    assert count(iter(trials), faults) == [Row("a", 2, 1), Row("b", 0, 0, "not tried: no mount")]
    assert faults == ["a: odd"]
