"""A stage runs once at a time on a data set and family; another process is refused, or waits for one that ends."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from stages import claim
from stages.claim import claimed

ROOT = Path(__file__).parents[2]
LOCK = Path("data", "work", "train", "fiq-clip.lock")
# Holds the stage until its input ends; `fork` leaves a child behind.
HOLDER = """
import os, sys, time
from stages.claim import claimed
with claimed("train", ["fiq", "clip"]):
    if sys.argv[1] == "fork" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def holder(kind: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `train fiq clip`; killed at the end, with what it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            stream.close()


def test_a_stage_that_another_process_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_SECONDS", 0.2)
    with holder() as other, pytest.raises(InputError) as raised, claimed("train", ["fiq", "clip"]):
        pass
    assert str(raised.value) == (
        f"{LOCK}: process {other.pid} runs stages.train fiq clip in this folder; wait for its end, or end it with "
        f"kill {other.pid}"
    )


@pytest.mark.parametrize(("stage", "items"), [("train", ["fiq", "blip"]), ("bank", ["fiq", "clip"])])
def test_other_stages_and_families_run_beside_it(stage: str, items: list[str]) -> None:
    with holder(), claimed(stage, items):
        assert LOCK.is_file()


@pytest.mark.parametrize("kind", ["", "fork"])
def test_the_stage_of_a_killed_process_can_run(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """At once, also if a process that it forked still runs."""
    monkeypatch.setattr(claim, "_SECONDS", 0.0)
    with holder(kind) as other:
        other.kill()
        other.wait()
        with claimed("train", ["fiq", "clip"]):
            assert LOCK.read_text() == str(os.getpid())


def test_a_process_that_ends_soon_is_waited_for() -> None:
    with holder() as other:
        other.stdin.close()
        with claimed("train", ["fiq", "clip"]):
            assert LOCK.read_text() == str(os.getpid())
    assert not Path("data", "work").exists()


def test_nothing_is_left_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), claimed("train", ["fiq", "clip"]):
        raise ZeroDivisionError
    assert not Path("data", "work").exists()
    Path("data", "work", "train", "fiq-clip").mkdir(parents=True)
    with claimed("train", ["fiq", "clip"]):
        pass
    assert [path.name for path in LOCK.parent.iterdir()] == ["fiq-clip"]


def test_a_file_system_without_locks_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with claimed("train", ["fiq", "clip"]), claimed("train", ["fiq", "clip"]):
        pass


def test_a_place_that_cannot_be_written_is_one_line() -> None:
    Path("data").write_text("")
    with pytest.raises(InputError, match="cannot be written"), claimed("train", ["fiq", "clip"]):
        pass
