"""Changes valid files at random and gives them to the readers: `python -m tests.faults.fuzz --minutes N`.

A reader may refuse a file by an InputError, and the endpoint by a 4xx. Any other error is a finding, and so is a crash,
a hang and an exhausted memory. Inputs that a reader answers in a new way are changed further. Findings are stored in
`tests/faults/corpus`, and `test_fuzz.py` reads them again.
"""

import argparse
import ast
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.faults.fuzz_child import CURRENT, PACKAGE, Found, Job
from tests.faults.report import Row, store

PART = "fuzz"
CORPUS = Path(__file__).parent / "corpus"
MODULE = "tests.faults.targets"
_ROOT = Path(__file__).parents[2]
_INPUTS = 1000


class Worker:
    """A process that gives inputs to readers. It is started when it is needed, also after it has died.

    Args:
        folder: a folder of its own.
        module: the module that contains the targets.
        seconds: the most seconds that an input may take, without those in which other programs held the cores.
        stuck: the most seconds that it may take in all; this ends what hangs in a library of C, where the process
            handles no signal.
    """

    def __init__(self, folder: Path, module: str = MODULE, seconds: float = 10, stuck: float = 240) -> None:
        self._folder, self._stuck = folder, stuck
        self._command = [sys.executable, "-m", "tests.faults.fuzz_child", module, str(folder), f"--seconds={seconds}"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def answer(self, target: str, content: bytes) -> str:
        """Gives a target one input. Returns how it failed; empty if it did not."""
        return "".join(self.ask(Job(target, given=content)).findings)

    def ask(self, job: Job) -> Found:
        """Lets the process do a job. If it dies, the only finding is the input that it tried last.

        Raises:
            RuntimeError: the process has died before it tried an input.
        """
        current = self._folder / CURRENT
        current.unlink(missing_ok=True)
        process = self._process = self._process or self._started()
        line = self._said(process, repr(tuple(job)).encode() + b"\n")
        if line.endswith(b"\n"):
            return Found(*ast.literal_eval(line.decode()))
        process.communicate()
        self._process = None
        errors = (self._folder / "errors").read_text(errors="replace")
        if not current.exists():
            raise RuntimeError(f"{job.target}: cannot be fuzzed: {errors[-2000:]}")
        return Found(1, 1, 0, {f"{_death(process.returncode)} at {_last_line(errors)}": current.read_bytes()})

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONHASHSEED": "0"}
        with (self._folder / "errors").open("wb") as errors:
            return subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )

    def _said(self, process: subprocess.Popen[bytes], asked: bytes) -> bytes:
        """Returns the answer of the process; what is no whole line if it died."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(asked)
        process.stdin.flush()
        current = self._folder / CURRENT
        while not select.select([process.stdout], [], [], 1)[0]:
            if current.exists() and time.time() - current.stat().st_mtime > self._stuck:
                process.send_signal(signal.SIGABRT)
        return process.stdout.readline()


def _death(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"


def _last_line(errors: str) -> str:
    """Returns the innermost line of this package, else of any, in the traceback of a process that died."""
    frames = re.findall(r'File "(.*/(\w+\.py))", line \d+ in (\w+)', errors)
    frames = [frame for frame in frames if frame[1] != "limits.py"]  # that ended the process
    own = [frame for frame in frames if frame[0].startswith(PACKAGE)]
    return ":".join((own or frames)[0][1:]) if frames else "an unknown line"


def keep(name: str, content: bytes, corpus: Path = CORPUS) -> Path:
    """Stores a finding in the corpus."""
    path = corpus / name.replace(" ", "-") / sha256(content).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run(worker: Worker, names: Sequence[str], inputs: int, seed: int, seconds: float = 0) -> list[tuple[Row, Found]]:
    """Fuzzes targets in turn. Returns the counts, and what was found in all turns.

    Args:
        worker: the process.
        names: the targets.
        inputs: number of inputs of a turn.
        seed: chooses the changes; the same inputs are tried in as many turns.
        seconds: turns begin until then, and each target has one.
    """
    tried, failed, ways = Counter[str](), Counter[str](), Counter[str]()
    found: dict[str, dict[str, bytes]] = {name: {} for name in names}
    end, turn = time.monotonic() + seconds, 0
    while turn < len(names) or time.monotonic() < end:
        name = names[turn % len(names)]
        answer = worker.ask(Job(name, inputs, seed + turn))
        tried[name] += answer.tried
        failed[name] += answer.failed
        ways[name] += answer.fresh
        found[name] = answer.findings | found[name]
        turn += 1
    counted = []
    for name in names:
        note = f"{ways[name]} ways to answer" + "".join(f"; {how}" for how in found[name])
        row = Row(name, tried[name], tried[name] - failed[name], note)
        counted.append((row, Found(tried[name], failed[name], ways[name], found[name])))
    return counted


def main() -> None:
    """Fuzzes, stores the findings and the counts; a finding fails the command."""
    from tests.faults.targets import TARGETS  # imports torch

    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="fuzz the targets whose names contain this")
    arguments = parser.parse_args()
    names = [each.name for each in TARGETS if arguments.only in each.name]
    print(f"seed {arguments.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Worker(Path(folder)) as worker:
        counted = run(worker, names, _INPUTS, arguments.seed, 60 * arguments.minutes)
    for row, found in counted:
        print(f"{row.fault}: {row.tried:,} tried, {row.note}")
        for content in found.findings.values():
            print(f"  {keep(row.fault, content)}")
    if not arguments.only:
        command = f"python -m tests.faults.fuzz --minutes {arguments.minutes:g}"
        store(PART, command, time.monotonic() - started, [row for row, _ in counted])
    if any(found.findings for _, found in counted):
        sys.exit(1)


if __name__ == "__main__":
    main()
