"""The stand-in for `python` that passes stages to a warm process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import warm_python
from demo.warm_python import write_stand_in

# A server without the libraries; it says where it listens by making its socket.
_SERVER = """
import sys
from demo import warm_python
warm_python.LIBRARIES = warm_python.LATE = ()
warm_python.serve(*sys.argv[1:])
"""
_STAGE = """
import os, pathlib, sys, time
pathlib.Path("pid").write_text(str(os.getpid()))
while not pathlib.Path("end").exists():
    time.sleep(0.01)
print("the end")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Path]:
    """A stand-in with a server, and a stage `stages.waiting` in `tmp_path` that waits for the file `end`."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "stages" / "waiting.py").write_text(_STAGE)
    path, address = tmp_path / "python", tmp_path / "link"
    write_stand_in(path, sys.executable, address)
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, address, path], process_group=0, cwd=Path(warm_python.__file__).parents[1]
    )
    _wait_for(address.exists)
    yield path
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _wait_for(done) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _start(stand_in: Path) -> tuple[subprocess.Popen[str], int]:
    """Starts the stage in a group of its own; returns the stand-in's process and the id of the stage's."""
    command = [stand_in, "-m", "stages.waiting"]
    process = subprocess.Popen(
        command, cwd=stand_in.parent, process_group=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    _wait_for(lambda: (stand_in.parent / "pid").exists() and (stand_in.parent / "pid").read_text())
    return process, int((stand_in.parent / "pid").read_text())


def _has_ended(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_group_of_the_stand_in_ends_the_stage(stand_in: Path, number: int) -> None:
    process, stage = _start(stand_in)
    os.killpg(process.pid, number)
    process.wait(timeout=20)
    _wait_for(lambda: _has_ended(stage))


def test_a_stage_ends_without_a_traceback_when_its_stand_in_is_ended(stand_in: Path) -> None:
    process, stage = _start(stand_in)
    process.terminate()
    assert process.wait(timeout=20) == -signal.SIGTERM
    _wait_for(lambda: _has_ended(stage))
    assert process.stdout.read() == ""


def test_a_stage_whose_stand_in_was_killed_finishes_without_a_traceback(stand_in: Path) -> None:
    process, stage = _start(stand_in)
    process.kill()
    process.wait(timeout=20)
    (stand_in.parent / "end").touch()
    _wait_for(lambda: _has_ended(stage))
    assert process.stdout.read() == "the end\n"


def test_a_script_runs_as_its_own_stand_in_with_the_python_of_the_stages(stand_in: Path, tmp_path: Path) -> None:
    script, command = tmp_path / "scripts" / "hello", tmp_path / "hello"
    script.parent.mkdir()
    script.write_text("import sys; print(sys.argv, sys.path[0], sys.executable, sep='|'); sys.exit(3)\n")
    write_stand_in(command, sys.executable, tmp_path / "link", script)
    done = subprocess.run([command, "a b", "-m"], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stdout == f"{[str(script), 'a b', '-m']}|{script.parent}|{stand_in}\n"


def test_other_commands_run_in_a_python_whose_path_has_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    python, stand_in = folder / "python3", folder / "python"
    python.symlink_to(sys.executable)
    write_stand_in(stand_in, str(python), folder / "link")
    code = "import sys; print(sys.argv[1:])"
    done = subprocess.run([stand_in, "-c", code, "a b", "$c"], check=True, capture_output=True, text=True)
    assert done.stdout == "['a b', '$c']\n"


def test_the_server_ends_after_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = f"""
import subprocess, sys, time
server = subprocess.Popen([sys.executable, "-c", {_SERVER!r}, sys.argv[1]], process_group=0)
print(server.pid, flush=True)
time.sleep(600)
"""
    address, root = tmp_path / "link", Path(warm_python.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", parent, address], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        _wait_for(address.exists)
        assert not _has_ended(server)
        process.kill()
    _wait_for(lambda: _has_ended(server))


def test_a_stand_in_that_ends_while_it_sends_ends_its_request() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"cut")
    theirs.close()
    with pytest.raises(EOFError), ours:
        warm_python._read(ours, 10)
