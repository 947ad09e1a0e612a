"""A stage that starts itself again in several processes: how it ends, and what the next run does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.distributed import small_training
from tests.distributed.test_equal_results import LOSS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
# Limits of waiting, far above what a busy machine needs.
SECONDS_TO_END = 600


@dataclass(frozen=True)
class Stage:
    """The small stage in a folder of its own.

    Attributes:
        folder: its current folder.
        data: the folder of images and the bank.
    """

    folder: Path
    data: Path

    def start(self, fault: str = "", **machine: Any) -> subprocess.Popen[str]:
        yaml = YAML()
        params = yaml.load(ROOT / "params.yaml")
        params["machine"] |= machine
        yaml.dump(params, self.folder / "params.yaml")
        return subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.small_stage", str(self.data), "stub"],
            cwd=self.folder,
            env={**ENVIRONMENT, "FAULT": fault},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, fault: str = "", **machine: Any) -> tuple[int, str, list[str]]:
        """Returns the status, the output, and the lines of stderr without those of the progress."""
        process = self.start(fault, **machine)
        out, errors = process.communicate(timeout=SECONDS_TO_END)
        return process.returncode, out, [line for line in errors.splitlines() if not line.startswith("stage 2 epoch")]

    def wait_for(self, name: str, process: subprocess.Popen[str]) -> None:
        while not (self.folder / name).exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def assert_no_process_is_left(self) -> None:
        pids = [int(path.read_text()) for path in self.folder.glob("pid-*")]
        assert len(pids) == 2
        deadline = time.monotonic() + SECONDS_TO_END
        while any(_is_running(pid) for pid in pids):
            assert time.monotonic() < deadline, "a process is left"
            time.sleep(0.1)

    def losses(self) -> list[float]:
        return _losses(json.loads((self.folder / "history.json").read_text()))


def _losses(history: dict[str, Any]) -> list[float]:
    return [step["loss"] for step in history["steps"]]


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    small_training.prepare(folder)
    return folder


@pytest.fixture
def stage(tmp_path: Path, data: Path) -> Stage:
    return Stage(tmp_path, data)


@pytest.fixture(scope="module")
def expected(data: Path) -> list[float]:
    """The losses of one process."""
    return _losses(small_training.train(data, data / "alone"))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_process_ends_the_stage_and_any_number_continues(
    stage: Stage, expected: list[float], processes: int
) -> None:
    status, _, errors = stage.run("killed", processes=2)
    assert status == 1
    assert errors == [
        "error: process 1 of the training was killed (SIGKILL); free memory if the machine ran out of it, and run the "
        "stage again: it continues after the last finished epoch"
    ]
    stage.assert_no_process_is_left()
    status, out, errors = stage.run(processes=processes)
    assert (status, errors) == (0, [])
    assert "stage 2: resumed after epoch" in out
    assert out.count("resumed") == 1
    assert stage.losses() == pytest.approx(expected, **LOSS)


def test_two_processes_continue_what_one_began(stage: Stage, expected: list[float]) -> None:
    process = stage.start(processes=1)
    stage.wait_for("work/state.pt", process)
    process.kill()
    process.communicate()
    status, out, _ = stage.run(processes=2)
    assert status == 0
    assert "stage 2: resumed after epoch" in out
    assert stage.losses() == pytest.approx(expected, **LOSS)


def test_a_batch_that_cannot_be_divided_starts_no_process(stage: Stage) -> None:
    status, _, errors = stage.run(processes=3)
    message = (
        "error: batch_size: 8 triplets cannot be divided among 3 processes (machine.processes); change one of them"
    )
    assert (status, errors) == (1, [message])
    assert not list(stage.folder.glob("pid-*"))


def test_an_error_of_one_process_is_printed_once(stage: Stage) -> None:
    status, _, errors = stage.run("input_error", processes=2)
    assert (status, errors) == (1, ["error: the GPU of process 1 is full"])
    stage.assert_no_process_is_left()


def test_a_bug_in_one_process_shows_its_traceback(stage: Stage) -> None:
    status, _, errors = stage.run("bug", processes=2)
    assert status == 1
    assert errors.count("ZeroDivisionError: a bug") == 1
    assert errors[-1] == "error: process 1 of the training ended with status 1; its messages are above"


def test_no_process_outlives_a_killed_stage(stage: Stage) -> None:
    process = stage.start("endless", processes=2)
    stage.wait_for("work/state.pt", process)
    process.kill()
    process.communicate()
    stage.assert_no_process_is_left()


def test_an_interrupted_stage_says_so(stage: Stage) -> None:
    process = stage.start("endless", processes=2)
    stage.wait_for("work/state.pt", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS_TO_END)
    assert process.returncode == 130
    assert "interrupted; run it again to continue" in errors
    assert "Traceback" not in errors
    stage.assert_no_process_is_left()


def two_machines(stage: Stage) -> str:
    """A prefix that starts the command twice on this machine, as `srun --nodes=2` would on two."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = f"PET_NNODES=2 PET_RDZV_BACKEND=c10d PET_RDZV_ENDPOINT=localhost:{port} PET_RDZV_ID=test"
    return f"{twice(stage)} env {variables}"


def twice(stage: Stage) -> str:
    """A prefix that starts the command twice at a time."""
    script = stage.folder / "twice.sh"
    script.write_text('"$@" &\n"$@"\nstatus=$?\nwait $! && exit $status\n')
    return f"sh {quote(str(script))}"


def test_a_prefix_starts_the_stage_on_two_machines(stage: Stage, expected: list[float]) -> None:
    status, out, errors = stage.run(launch=two_machines(stage))
    assert (status, errors) == (0, [])
    assert out.count("this training runs in 1 process of this machine, one of 2 machines") == 2
    assert out.count("epoch 12: loss") == 1
    assert stage.losses() == pytest.approx(expected, **LOSS)


def test_a_process_that_dies_on_one_of_two_machines_is_one_line_of_each(stage: Stage) -> None:
    """The other machine reports what it lost, and the stage which prefix has ended."""
    prefix = two_machines(stage)
    status, _, errors = stage.run("killed", launch=prefix)
    assert status == 1
    *machines, last = errors
    assert last.startswith(f"error: machine.launch: '{prefix}' ended with status 1; its messages are above; once their")
    killed, lost = sorted(machines, key=lambda line: "process 1" not in line)
    assert killed.startswith("error: process 1 of the training was killed (SIGKILL); free memory")
    assert re.match(
        r"error: (process 0|this machine) lost another (process|machine) of the training \([^/]+\); run", lost
    )
    stage.assert_no_process_is_left()


def test_an_interruption_also_ends_a_prefix_that_ignores_it(stage: Stage) -> None:
    prefix = stage.folder / "prefix.sh"
    prefix.write_text('trap "" INT\necho $$ > pid-0\necho $$ > pid-1\nexec sleep 1000\n')
    process = stage.start(launch=f"sh {quote(str(prefix))}")
    stage.wait_for("pid-1", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS_TO_END)
    assert process.returncode == 130, errors
    stage.assert_no_process_is_left()


def test_two_starts_that_do_not_know_of_each_other_are_no_training(stage: Stage) -> None:
    """As with `srun --nodes=2` without PET_NNODES: both would write the same files."""
    status, _, errors = stage.run(launch=twice(stage))
    assert status == 1
    refused, last = errors
    assert refused.startswith(
        "error: machine.launch: the prefix has started this stage twice at a time, and PET_NNODES"
    )
    assert last.startswith("error: machine.launch: 'sh ")


@pytest.mark.parametrize("prefix", ["true", "echo"])
def test_a_prefix_that_starts_nothing_is_no_success(stage: Stage, prefix: str) -> None:
    status, _, errors = stage.run(launch=prefix)
    assert status == 1
    assert errors == [
        "error: machine.launch: the prefix has ended, but did not start the stage; set a prefix that runs the command "
        "after it, or null"
    ]


def test_a_prefix_that_is_no_command_is_named(stage: Stage) -> None:
    status, _, errors = stage.run(launch="no-such-command --nodes=2")
    assert status == 1
    assert errors == [
        "error: machine.launch: no-such-command: No such file or directory; set a prefix that starts a command, or null"
    ]
