"""The short form of the environments: those that broke programs before, and whether the checks can fail."""

import time
from functools import partial
from pathlib import Path

import pytest

from spn4cir.json_files import read_json, write_json
from tests.faults.campaign import Result, Skipped, count, run_missing
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
    results = [Result("a", []), Result("a", ["odd"]), Result("b", [], "no mount")]
    assert count(results) == [Row("a", 2, 1), Row("b", 0, 0, "not tried: no mount")]


def test_trials_that_have_ended_do_not_run_again_after_an_interruption(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    ran: list[str] = []

    def trial(name: str, wrong: list[str] | Skipped, interrupted: bool = False) -> list[str] | Skipped:
        ran.append(name)
        if interrupted and ran.count(name) == 1:
            raise KeyboardInterrupt
        return wrong

    trials = [
        ("a", partial(trial, "a", ["odd"])),
        ("b", partial(trial, "b", Skipped("no mount"))),
        ("c", partial(trial, "c", [], interrupted=True)),
    ]
    with pytest.raises(KeyboardInterrupt):
        run_missing(trials, state, time.monotonic())
    results, seconds = run_missing(trials, state, time.monotonic() - 100)
    assert results == [Result("a", ["odd"]), Result("b", [], "no mount"), Result("c", [])]
    assert ran == ["a", "b", "c", "c"]
    assert seconds >= 100
    write_json(state, read_json(state) | {"code": "of another day"})
    run_missing(trials[:1], state, time.monotonic())
    assert ran[4:] == ["a"]
