"""Each process takes GPUs of its own, and the end of a process releases them."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from spn4cir import gpu_locks
from spn4cir.errors import InputError
from spn4cir.gpu_locks import take_gpus

# Takes a GPU, prints its number, and ends with its standard input; so does a process that it forks.
_TAKER = r"""
import os, socket, sys
if host := os.environ.get("HOST_OF_THE_TEST"):
    socket.gethostname = lambda: host
from spn4cir.gpu_locks import take_gpus
found = take_gpus({{number: name for number, name in enumerate({names!r})}}, 1)
if {forks}:
    os.fork()
sys.stdout.write(f"{{found[0]}}\n")
sys.stdout.flush()
sys.stdin.read()
"""
Taker = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gpu_locks, "_held", {})
    yield
    for stream in gpu_locks._held.values():
        stream.close()


@pytest.fixture
def taker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taker]:
    """Starts a process that has taken one of the named GPUs."""
    started: list[subprocess.Popen[str]] = []

    def start(*names: str, forks: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _TAKER.format(names=names, forks=forks), "train", "fiq"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        for _ in range(1 + forks):
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
        return process

    yield start
    for process in started:
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def while_waiting(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Runs `act` in the first pause between two attempts; a second pause fails the test."""
    acts = [act]
    monkeypatch.setattr(gpu_locks.time, "sleep", lambda seconds: acts.pop()())


def test_a_process_takes_a_gpu_that_no_other_has(taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    taker("a", "b")
    assert take_gpus({0: "a", 1: "b"}, 1) == [1]
    assert take_gpus({0: "a", 1: "b"}, 1) == [1], "a second stage of the same process keeps it"
    assert capsys.readouterr().out == ""


def test_it_waits_for_a_killed_process_and_says_for_which(
    taker: Taker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = taker("a")
    while_waiting(monkeypatch, lambda: kill(other))
    assert take_gpus({3: "a"}, 1) == [3]
    said = f"machine.devices: waits until 1 of 1 GPUs are free; in use: 3 by process {other.pid} (-c train fiq, in "
    assert capsys.readouterr().out == f"{said}{Path.cwd()})\n"


def test_a_forked_process_does_not_keep_the_gpu(taker: Taker) -> None:
    """As the processes that decode images, which may outlive a killed stage for seconds."""
    other = taker("a", forks=True)
    kill(other)
    assert take_gpus({0: "a"}, 1) == [0]


def test_several_are_taken_at_once_or_none(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    other = taker("b")
    assert take_gpus({0: "a", 1: "b", 2: "c"}, 1) == [0]
    assert take_gpus({0: "a", 1: "b", 2: "c"}, 2) == [0, 2]

    def take_the_free_one() -> None:
        kill(taker("d"))
        kill(other)

    while_waiting(monkeypatch, take_the_free_one)
    assert take_gpus({0: "d", 1: "b"}, 2) == [0, 1]


def test_more_than_the_list_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"machine\.devices: 2 GPUs are needed, but the list has 1; add more"):
        take_gpus({0: "a"}, 2)


def test_two_numbers_of_one_gpu_are_refused() -> None:
    with pytest.raises(InputError, match=r"machine.devices: \[0, 2\] are one GPU, a; correct CUDA_VISIBLE_DEVICES"):
        take_gpus({0: "a", 1: "b", 2: "a"}, 2)


def test_a_file_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(stream: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(InputError, match=r"a\.lock: cannot be locked \(No locks available\); set XDG_CACHE_HOME"):
        take_gpus({0: "a"}, 1)


def test_a_user_that_cannot_be_read_is_another_process(
    taker: Taker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = taker("a")
    (file,) = tmp_path.rglob("a.lock")
    file.write_text("")
    while_waiting(monkeypatch, lambda: kill(other))
    take_gpus({0: "a"}, 1)
    assert capsys.readouterr().out.endswith("in use: 0 by another process\n")


def test_the_numbers_are_not_what_is_locked(taker: Taker) -> None:
    """Another value of CUDA_VISIBLE_DEVICES gives the same GPU another number."""
    taker("a")
    gpus: Mapping[int, str] = {0: "b", 1: "a"}
    assert take_gpus(gpus, 1) == [0]


def test_containers_that_share_the_folder_see_the_locks_of_each_other(
    taker: Taker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each container has a host name of its own."""
    monkeypatch.setenv("HOST_OF_THE_TEST", "container-1")
    other = taker("a")
    while_waiting(monkeypatch, lambda: kill(other))
    assert take_gpus({0: "a"}, 1) == [0]
    assert f"in use: 0 by process {other.pid} of container-1 (-c train fiq, in " in capsys.readouterr().out


def test_machines_that_share_the_folder_do_not(taker: Taker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taker("a")
    (tmp_path / "boot_id").write_text("of-another-machine\n")
    monkeypatch.setattr(gpu_locks, "_BOOT_ID", tmp_path / "boot_id")
    assert take_gpus({0: "a"}, 1) == [0]
    assert (tmp_path / "spn4cir" / "gpus" / "of-another-machine" / "a.lock").is_file()


def test_a_system_without_boot_ids_is_known_by_its_host_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_locks, "_BOOT_ID", tmp_path / "absent")
    monkeypatch.setattr(gpu_locks.socket, "gethostname", lambda: "machine-7")
    take_gpus({0: "MIG-GPU-a/1/0"}, 1)
    assert (tmp_path / "spn4cir" / "gpus" / "machine-7" / "MIG-GPU-a_1_0.lock").is_file()
