"""A `python` that starts stages from a process that has already imported the heavy libraries.

Importing torch, torchvision and transformers takes a stage several seconds of processor time; `make demo-all`, `make
research` and the pipeline's tests start about a hundred stages each. `warm_python` writes a stand-in for `python` to a
folder. It passes `-m stages.X`, `-m demo.X` and `-m dvc` to a server, which has imported the libraries (never the
modules of the project) and forks; other commands run in the real Python. Commands of the environment, as `dvc`, can
have stand-ins of their own. As a script, this file is the server.
"""

import atexit
import importlib
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "open_clip",
    "timm",
    "transformers",
    "faiss",
    "pyarrow.parquet",
    "pydantic",
    # What `dvc repro` imports.
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.rwlock",
    "dvc.utils.strictyaml",
    "dulwich.worktree",
)
# Modules that transformers imports on first use.
LATE = (
    "transformers.models.blip.modeling_blip_text",
    "transformers.models.blip_2.modeling_blip_2",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
    "transformers.models.auto.processing_auto",
)
_SECONDS_BETWEEN_LOOKS = 1.0
# The first line of a script cannot name a program with spaces in its path. So a shell starts Python, to which the
# command of the shell is a string.
_STAND_IN = """#!/bin/sh
'''exec' {quoted} -IS "$0" "$@"
' '''
import json, os, signal, socket, sys
script, arguments = {script!r}, sys.argv[1:]
if script is None and (arguments[:1] != ["-m"] or arguments[1].split(".")[0] not in ("stages", "demo", "dvc")):
    os.execv({python!r}, [{python!r}, *arguments])
with socket.socket(socket.AF_UNIX) as link:
    link.connect({address!r})
    words = [script, *arguments] if script else arguments[1:]
    order = json.dumps([words, os.getcwd(), dict(os.environ), os.getpgrp()]).encode()
    socket.send_fds(link, [len(order).to_bytes(4, "big")], [0, 1, 2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})  # until there is a stage that it can end
    link.sendall(order)
    stage = int.from_bytes(link.recv(4), "big")
    def end(number, _):
        os.kill(stage, number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if stage:
        signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGTERM}})
    answer = link.recv(1)
sys.exit(answer[0] if answer else "the process was killed")
"""


@contextmanager
def warm_python(folder: Path, scripts: Sequence[str] = ()) -> Iterator[Path]:
    """Runs the server; yields the folder of the stand-ins, which the caller puts first into PATH.

    Args:
        folder: an empty folder.
        scripts: commands of the environment that the server runs too, with the stand-in as their `sys.executable`.
            SIGINT and SIGKILL reach such a command only if they are sent to its process group.
    """
    address, bin_folder = folder / "link", folder / "bin"
    bin_folder.mkdir()
    stand_in = bin_folder / "python"
    write_stand_in(stand_in, sys.executable, address)
    for name in scripts:
        write_stand_in(bin_folder / name, sys.executable, address, Path(sys.executable).parent / name)
    command = [sys.executable, "-P", __file__, str(address), *([str(stand_in)] if scripts else [])]
    # A group of its own in this session, so that its stages can join the groups of their stand-ins.
    server = subprocess.Popen(command, process_group=0)
    try:
        deadline = time.monotonic() + 120
        while not address.exists():
            assert server.poll() is None, "the server of warm processes ended"
            assert time.monotonic() < deadline, "the server of warm processes did not start"
            time.sleep(0.1)
        yield bin_folder
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def write_stand_in(path: Path, python: str, address: Path, script: Path | None = None) -> None:
    """Writes a stand-in, which passes what it is to run to the server at `address`.

    Args:
        path: the stand-in.
        python: the real Python.
        address: the server's socket.
        script: the Python script that it runs. None: the one, or the module, of its arguments.
    """
    names = {"python": python, "address": str(address), "script": script and str(script)}
    path.write_text(_STAND_IN.format(quoted=shlex.quote(python), **names))
    path.chmod(0o755)


def serve(address: str, executable: str | None = None) -> None:
    """Imports the libraries, then forks a process for every request, until the process that started it has ended.

    Args:
        address: the socket to make.
        executable: `sys.executable` of the forked processes. None: the real Python.
    """
    parent = os.getppid()
    for name in (*LIBRARIES, *LATE):
        importlib.import_module(name)
    sys.executable = executable or sys.executable
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps children
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(16)
        door.settimeout(_SECONDS_BETWEEN_LOOKS)
        while os.getppid() == parent:  # a parent that is killed cannot end this process
            try:
                link, _ = door.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                _run(link)
            link.close()


def _run(link: socket.socket) -> None:
    """Runs one request in this process, answers with its exit status and ends."""
    head, streams, _, _ = socket.recv_fds(link, 4, 3)
    arguments, folder, environment, group = json.loads(_read(link, int.from_bytes(head, "big")))
    with suppress(OSError):  # a group of another session
        os.setpgid(0, group)  # what ends the stand-in's group, as Ctrl-C does, ends the stage
    link.sendall(os.getpid().to_bytes(4, "big"))
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    is_script = Path(arguments[0]).is_absolute()
    sys.path.insert(0, str(Path(arguments[0]).parent) if is_script else folder)
    sys.argv = arguments
    status = _status(arguments[0], is_script)
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):  # who reads them has ended, or the stand-in was killed
        sys.stdout.flush()
        sys.stderr.flush()
        link.sendall(bytes([status & 255]))
    os._exit(status)


def _read(link: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        if not (part := link.recv(size - len(parts))):
            raise EOFError("the stand-in ended before it had sent its command")
        parts += part
    return parts


def _status(name: str, is_script: bool) -> int:
    """Runs a module or a script as `python -m` and `python` do. Returns the exit status."""
    try:
        if is_script:
            runpy.run_path(name, run_name="__main__")
        else:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return _number(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _number(code: Any) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    serve(*sys.argv[1:])
