"""What the parts that run the tiny project share: its folder, the counting, and the report."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.project import warm_environment
from tests.faults.report import Row, store
from tests.faults.tiny import Tiny


class Skipped(Exception):
    """A fault cannot be tried here; the message says why."""


# What was done, and what is wrong after it.
Trial = tuple[str, list[str] | Skipped]


def count(trials: Iterator[Trial], faults: list[str]) -> list[Row]:
    """Runs trials and returns a row for each kind; says what is wrong when it is found, and adds it to `faults`."""
    rows: dict[str, Row] = {}
    for fault, wrong in trials:
        if isinstance(wrong, Skipped):
            print(f"{fault}: not tried: {wrong}", flush=True)
            rows[fault] = Row(fault, 0, 0, f"not tried: {wrong}")
            continue
        print(f"{fault}: {'ok' if not wrong else wrong[0]}", flush=True)
        faults.extend(f"{fault}: {line}" for line in wrong)
        row = rows.setdefault(fault, Row(fault, 0, 0))
        rows[fault] = row._replace(tried=row.tried + 1, survived=row.survived + (not wrong))
    return list(rows.values())


def main(part: str, doc: str | None, trials: Callable[[Tiny, Path], Iterator[Trial]]) -> None:
    """Runs a part with the tiny project and stores its counts.

    Args:
        part: name of the part.
        doc: what it does.
        trials: yields what was done and what is wrong, from the project and a folder for copies.
    """
    argparse.ArgumentParser(prog=f"python -m tests.faults.{part}", description=doc).parse_args()
    began = time.monotonic()
    faults: list[str] = []
    with TemporaryDirectory(prefix="spn4cir-faults-") as folder, warm_environment() as environment:
        rows = count(trials(Tiny.make(Path(folder), environment), Path(folder)), faults)
    print(store(part, f"python -m tests.faults.{part}", time.monotonic() - began, rows))
    if faults:
        sys.exit("\n".join([f"{len(faults)} faults:", *faults]))


def fresh_folder(place: Path) -> Path:
    """Removes a folder that an earlier trial left, also if it may not be written. Returns it."""
    for path in [place, *place.rglob("*")] if place.is_dir() else []:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)
    return place
