"""Changes valid files at random and gives them to the readers: `python -m tests.faults.fuzz --minutes N`.

A reader may refuse a file by an InputError, and the endpoint by a 4xx. Any other error is a finding, and so is a crash,
a hang and an exhausted memory. Inputs that a reader answers in a new way are changed further. Findings are stored in
`tests/faults/corpus`, and `test_fuzz.py` reads them again.
"""

import argparse
import ast
import faulthandler
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from spn4cir.errors import InputError
from tests.faults.attempts import limit_memory, time_limit
from tests.faults.report import Row, store
from tests.faults.targets import TARGETS, Reader, Target, emptied, outcome

PART = "fuzz"
CORPUS = Path(__file__).parent / "corpus"
_SLICE = 5.0
_HANG = 10
# Ends a slice that hangs inside a library of C, where no signal is handled; it also counts other programs' time.
_STUCK = 240
_ADDRESSES = 4 << 30
_LARGEST = 100_000
_INTERESTING = (
    b"", b"\0", b"\xff", b"\n", b"\r\n", b'"', b"\\", b"null", b"true", b"-1", b"0", b"9" * 30, b"1e999", b"NaN", b"[]",
    b"{}", b"[[[[", b"{" * 50, b"\\ud800", b"\xed\xa0\x80", b"../", b"%00", b"\x7f\xff\xff\xff", b"\x80\0\0\0",
    b"\xff" * 8, b"\0" * 512,
)  # fmt: skip


class Found(NamedTuple):
    """What a process of the fuzzer found.

    Attributes:
        tried: number of inputs.
        failed: number of inputs that raised another error than they may.
        fresh: inputs that were answered in a new way.
        findings: one of the inputs that failed for each kind and place of the error.
    """

    tried: int
    failed: int
    fresh: list[bytes]
    findings: dict[str, bytes]


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns a file with one to eight changes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64, 512))
        kind = rng.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length]
        elif kind == 4:
            data[place:place] = rng.choice(_INTERESTING)
        elif kind == 5:
            data = _with_token(data, rng)
        else:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            data[place : place + length] = other[begin : begin + length]
    return bytes(data[:_LARGEST])


def _with_token(data: bytearray, rng: random.Random) -> bytearray:
    """Replaces a word, a number or a text in quotes."""
    tokens = list(re.finditer(rb'"[^"\\]{0,40}"|[\w.]+', bytes(data)))
    if tokens:
        chosen = rng.choice(tokens)
        data[chosen.start() : chosen.end()] = rng.choice((*_INTERESTING, rng.choice(tokens)[0]))
    return data


def _signature(error: Exception | None) -> str:
    """Returns a text that is equal for inputs which a reader answers alike."""
    return re.sub(r"'.*?'|\".*?\"|\d+|/\S*", "", f"{type(error).__name__} {error}")[:80]


def _origin(error: Exception) -> str:
    """Returns the kind of an error and the line of this package that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/spn4cir/" in frame.filename]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.name}"


def fuzz_slice(target: Target, folder: Path, pool: list[bytes], seconds: float, seed: int) -> Found:
    """Fuzzes a target in this process. The input that is tried last is always in the file `current` of the folder."""
    read, rng = target.open(folder), random.Random(seed)
    seen = {_signature(outcome(read, each)) for each in pool}
    fresh: list[bytes] = []
    findings: dict[str, bytes] = {}
    tried, failed, end = 0, 0, time.process_time() + seconds
    while time.process_time() < end:
        content = mutated(rng.choice([*pool, *fresh]), pool, rng)
        error = _limited(read, folder, content)
        judged = _judged(content, error)
        tried += 1
        failed += judged.failed
        findings = judged.findings | findings
        if not judged.failed and (signature := _signature(error)) not in seen:
            seen.add(signature)
            fresh.append(content)
    return Found(tried, failed, fresh, findings)


def _limited(read: Reader, folder: Path, content: bytes) -> Exception | None:
    """Calls a reader. Returns what it raised, or None; a hang ends this process."""
    (folder / "current").write_bytes(content)
    with time_limit(_HANG, os.abort):
        return outcome(read, content)


def answer(target: Target, folder: Path, content: bytes) -> str:
    """Gives a target one input in a process of its own. Returns how it failed; empty if it did not."""

    def once() -> Found:
        read = target.open(folder)
        return _judged(content, _limited(read, folder, content))

    return "".join(in_child(target.name, once, folder).findings)


def _judged(content: bytes, error: Exception | None) -> Found:
    failed = error is not None and not isinstance(error, InputError)
    return Found(1, int(failed), [], {_origin(error): content} if error and failed else {})


def in_child(name: str, search: Callable[[], Found], folder: Path) -> Found:
    """Searches in a process of its own, so that a crash, a hang and a bomb are findings as well."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(search, folder / "errors", writing)
    os.close(writing)
    watch = threading.Timer(_STUCK, partial(os.kill, child, signal.SIGABRT))
    watch.start()
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    watch.cancel()
    watch.join()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return Found(*ast.literal_eval(said.decode()))
    errors = (folder / "errors").read_text(errors="replace")
    if not (folder / "current").exists():
        raise RuntimeError(f"{name}: cannot be fuzzed: {errors[-2000:]}")
    return Found(1, 1, [], {f"{_death(status)} at {_last_line(errors)}": (folder / "current").read_bytes()})


def _death(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"


def _last_line(errors: str) -> str:
    """Returns the innermost line of this package in the traceback of a process that died."""
    found = re.search(r'File ".*/spn4cir/.*?(\w+\.py)", line \d+ in (\w+)', errors)
    return f"{found[1]}:{found[2]}" if found else "an unknown line"


def _child(search: Callable[[], Found], log: Path, writing: int) -> None:
    """Searches, writes what was found into a pipe, and ends this process in any case."""
    status = 1
    try:
        limit_memory(_ADDRESSES)
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        faulthandler.enable(errors)
        found = search()
        with os.fdopen(writing, "wb") as stream:
            stream.write(repr(tuple(found)).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def keep(name: str, content: bytes) -> Path:
    """Stores a finding in the corpus."""
    path = CORPUS / name.replace(" ", "-") / sha256(content).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run(seconds: float, seed: int, targets: tuple[Target, ...] = TARGETS) -> list[tuple[Row, dict[str, bytes]]]:
    """Fuzzes the targets in turn until the time is over. Returns the counts and the findings of each."""
    tried, failed, ways = Counter[str](), Counter[str](), Counter[str]()
    found: dict[str, dict[str, bytes]] = {each.name: {} for each in targets}
    pools: dict[str, list[bytes]] = {}
    end, turn = time.monotonic() + seconds, 0
    length = min(_SLICE, seconds / len(targets))
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end or turn < len(targets):
            target = targets[turn % len(targets)]
            place = Path(folder, target.name)
            pool = pools.get(target.name) or target.seeds(emptied(Path(folder, f"seeds {target.name}")))
            search = partial(fuzz_slice, target, emptied(place), pool, length, seed + turn)
            ended = in_child(target.name, search, place)
            pools[target.name] = [*pool, *ended.fresh][:200]
            tried[target.name] += ended.tried
            failed[target.name] += ended.failed
            ways[target.name] += len(ended.fresh)
            found[target.name] = ended.findings | found[target.name]
            turn += 1
    rows = []
    for each in targets:
        note = f"{ways[each.name]} ways to answer" + "".join(f"; {how}" for how in found[each.name])
        row = Row(each.name, tried[each.name], tried[each.name] - failed[each.name], note)
        rows.append((row, found[each.name]))
    return rows


def main() -> None:
    """Fuzzes, stores the findings and the counts; a finding fails the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="fuzz the targets whose names contain this")
    arguments = parser.parse_args()
    targets = tuple(each for each in TARGETS if arguments.only in each.name)
    print(f"seed {arguments.seed}", flush=True)
    started = time.monotonic()
    rows = run(60 * arguments.minutes, arguments.seed, targets)
    for row, findings in rows:
        print(f"{row.fault}: {row.tried:,} tried, {row.note}")
        for content in findings.values():
            print(f"  {keep(row.fault, content)}")
    if not arguments.only:
        command = f"python -m tests.faults.fuzz --minutes {arguments.minutes:g}"
        store(PART, command, time.monotonic() - started, [row for row, _ in rows])
    if any(findings for _, findings in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
