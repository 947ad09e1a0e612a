"""The program that the fuzzer starts: it gives inputs to readers until it is killed, or its standard input ends.

A crash, a hang and an exhausted memory end this process. The input that was tried last is always in the file `current`
of its folder, and the inputs that a target answered in new ways are in the folder `pool` of the target.
"""

import argparse
import ast
import faulthandler
import os
import random
import re
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NamedTuple

import spn4cir
from spn4cir.errors import InputError
from tests.faults.limits import limit_memory, time_limit
from tests.faults.mutations import mutated
from tests.faults.readers import Target, outcome

PACKAGE = f"{Path(spn4cir.__file__).parent}/"
CURRENT, POOL = "current", "pool"
_ADDRESSES = 4 << 30
_LARGEST_POOL = 200


class Job(NamedTuple):
    """What the process is asked to do.

    Attributes:
        target: name of the target.
        inputs: number of changed files to try.
        seed: chooses the changes.
        given: the only input to try instead, unchanged.
    """

    target: str
    inputs: int = 0
    seed: int = 0
    given: bytes | None = None


class Found(NamedTuple):
    """What the process answers.

    Attributes:
        tried: number of inputs.
        failed: number of inputs that raised another error than they may.
        fresh: number of inputs that were answered in a new way.
        findings: one of the inputs that failed for each kind and place of the error.
    """

    tried: int
    failed: int
    fresh: int
    findings: dict[str, bytes]


class Search:
    """A target, and the ways in which it has answered.

    Args:
        target: the target.
        folder: the folder of the process.
        seconds: the most seconds that an input may take.
    """

    def __init__(self, target: Target, folder: Path, seconds: float) -> None:
        self._target, self._seconds = target, seconds
        self._folder = folder / target.name
        (self._folder / "files").mkdir(parents=True, exist_ok=True)
        self._read = target.open(self._folder / "files")
        self._current = folder / CURRENT
        self._stream: BinaryIO | None = None
        self._pool: list[bytes] = []
        self._seen: set[str] = set()

    def run(self, job: Job) -> Found:
        """Tries the inputs of a job."""
        try:
            return self._run(job)
        finally:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _run(self, job: Job) -> Found:
        if job.given is not None:
            how = self._failure(self._try(job.given))
            return Found(1, int(bool(how)), 0, {how: job.given} if how else {})
        if not self._pool:
            self._fill_pool()
        rng, before = random.Random(job.seed), len(self._seen)
        failed, findings = 0, dict[str, bytes]()
        for _ in range(job.inputs):
            content = mutated(rng.choice(self._pool), self._pool, rng)
            error = self._try(content)
            if how := self._failure(error):
                failed += 1
                findings.setdefault(how, content)
            else:
                self._note(content, error)
        return Found(job.inputs, failed, len(self._seen) - before, findings)

    def _fill_pool(self) -> None:
        """Reads the pool that an earlier process left, or writes the seeds of the target into it."""
        pool, seeds = self._folder / POOL, self._folder / "seeds"
        if not pool.is_dir():
            pool.mkdir()
            seeds.mkdir()
            for content in self._target.seeds(seeds):
                self._add(content)
        else:
            self._pool = [path.read_bytes() for path in sorted(pool.iterdir())]
        self._seen = {_signature(self._try(each)) for each in self._pool}

    def _add(self, content: bytes) -> None:
        (self._folder / POOL / f"{len(self._pool):04}").write_bytes(content)
        self._pool.append(content)

    def _note(self, content: bytes, error: Exception | None) -> None:
        if (signature := _signature(error)) not in self._seen:
            self._seen.add(signature)
            if len(self._pool) < _LARGEST_POOL:
                self._add(content)

    def _try(self, content: bytes) -> Exception | None:
        """Calls the reader. Returns what it raised, or None; a hang ends this process."""
        if self._stream is None:  # opened once a job, as that takes longer than many a reader
            self._stream = self._current.open("wb", buffering=0)
        self._stream.seek(0)
        self._stream.truncate()
        self._stream.write(content)
        with time_limit(self._seconds, os.abort):
            return outcome(self._read, content)

    @staticmethod
    def _failure(error: Exception | None) -> str:
        """Returns the kind of an error and the line of this package that it came through; empty for what it may be."""
        if error is None or isinstance(error, InputError):
            return ""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
        frame = (own or frames)[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.name}"


def _signature(error: Exception | None) -> str:
    """Returns a text that is equal for inputs which a reader answers alike."""
    return re.sub(r"'.*?'|\".*?\"|\d+|/\S*", "", f"{type(error).__name__} {error}")[:160]


def main() -> None:
    """Answers one line for each line of the standard input: a `Found` for a `Job`."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_child", description=__doc__)
    parser.add_argument("module", help="the module that contains TARGETS")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="the most seconds that an input may take")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader prints is no answer
    faulthandler.enable()
    targets: dict[str, Target] = {each.name: each for each in import_module(arguments.module).TARGETS}
    searches: dict[str, Search] = {}
    limit_memory(_ADDRESSES)
    for line in sys.stdin:
        job = Job(*ast.literal_eval(line))
        if job.target not in searches:
            searches[job.target] = Search(targets[job.target], arguments.folder, arguments.seconds)
        answers.write(repr(tuple(searches[job.target].run(job))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
