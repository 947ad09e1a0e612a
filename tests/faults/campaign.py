"""What the parts that run the tiny project share: its folder, the trials and their counts, and the report."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from spn4cir.json_files import read_json, write_json
from tests.faults.parts import STATES, code_version
from tests.faults.project import warm_environment
from tests.faults.report import Row, store
from tests.faults.tiny import Tiny


class Skipped(Exception):
    """A fault cannot be tried here; the message says why."""


# What is done, and how: the call returns what is wrong after it, or why it cannot be tried.
Trial = tuple[str, Callable[[], list[str] | Skipped]]


class Result(NamedTuple):
    """A trial that has ended.

    Attributes:
        fault: what was done.
        wrong: what was wrong after it.
        skipped: why it was not tried; empty if it was.
    """

    fault: str
    wrong: list[str]
    skipped: str = ""


def run_missing(trials: Iterable[Trial], state: Path, began: float) -> tuple[list[Result], float]:
    """Runs the trials that have not ended since the code changed, and stores each result.

    Args:
        trials: all trials, in the same order in each call.
        state: the file of the results.
        began: when the command started, by `time.monotonic`.

    Returns:
        The results of all trials, and the seconds that they took, those before an interruption included.
    """
    code = code_version()
    stored = read_json(state) if state.is_file() else {}
    stored = stored if stored.get("code") == code else {"results": [], "seconds": 0.0}
    results, before = [Result(*each) for each in stored["results"]], stored["seconds"]
    for fault, trial in islice(trials, len(results), None):
        wrong = trial()
        result = Result(fault, [], str(wrong)) if isinstance(wrong, Skipped) else Result(fault, wrong)
        said = f"not tried: {result.skipped}" if result.skipped else result.wrong[0] if result.wrong else "ok"
        print(f"{fault}: {said}", flush=True)
        results.append(result)
        write_json(state, {"code": code, "results": results, "seconds": before + time.monotonic() - began})
    return results, before + time.monotonic() - began


def count(results: Iterable[Result]) -> list[Row]:
    """Returns a row for each fault."""
    rows: dict[str, Row] = {}
    for fault, wrong, skipped in results:
        if skipped:
            rows[fault] = Row(fault, 0, 0, f"not tried: {skipped}")
            continue
        row = rows.setdefault(fault, Row(fault, 0, 0))
        rows[fault] = row._replace(tried=row.tried + 1, survived=row.survived + (not wrong))
    return list(rows.values())


def main(part: str, doc: str | None, trials: Callable[[Tiny, Path], Iterator[Trial]]) -> None:
    """Runs a part with the tiny project and stores its counts. After an interruption it continues with the next trial.

    Args:
        part: name of the part.
        doc: what it does.
        trials: yields the trials, from the project and a folder for copies.
    """
    argparse.ArgumentParser(prog=f"python -m tests.faults.{part}", description=doc).parse_args()
    began = time.monotonic()
    state = STATES / f"{part}.json"
    with TemporaryDirectory(prefix="spn4cir-faults-") as folder, warm_environment() as environment:
        tiny = Tiny.make(Path(folder), environment)
        results, seconds = run_missing(trials(tiny, Path(folder)), state, began)
    print(store(part, f"python -m tests.faults.{part}", seconds, count(results)))
    state.unlink(missing_ok=True)
    if faults := [f"{result.fault}: {line}" for result in results for line in result.wrong]:
        sys.exit("\n".join([f"{len(faults)} faults:", *faults]))


def fresh_folder(place: Path) -> Path:
    """Removes a folder that an earlier trial left, also if it may not be written. Returns it."""
    for path in [place, *place.rglob("*")] if place.is_dir() else []:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)
    return place
