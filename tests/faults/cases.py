"""The table of bad inputs, and `python -m tests.faults.cases`, which tries all of them and stores the counts."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import (
    annotation_cases,
    archive_cases,
    checkpoint_cases,
    command_cases,
    hub_cases,
    image_cases,
    index_cases,
    output_cases,
    params_cases,
    project_cases,
    run_cases,
    serve_cases,
    submission_cases,
)
from tests.faults.attempts import Case, attempt, fresh_place
from tests.faults.report import Row, store

PART = "cases"
COMMAND = f"python -m tests.faults.{PART}"


_MODULES = (
    annotation_cases,
    params_cases,
    project_cases,
    image_cases,
    checkpoint_cases,
    command_cases,
    archive_cases,
    hub_cases,
    index_cases,
    output_cases,
    run_cases,
    serve_cases,
    submission_cases,
)


def all_cases(kind: str = "") -> list[Case]:
    """Returns every case, or those of the kinds whose names contain `kind`; the names of cases differ."""
    return [case for module in _MODULES if kind in module.KIND for case in module.cases()]


def main() -> None:
    """Tries the cases, prints those that fail, and stores the counts if all were tried."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--kind", default="", help="try the kinds whose names contain this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every Nth case")
    arguments = parser.parse_args()
    started = time.monotonic()
    tried, survived = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for case in all_cases(arguments.kind)[:: arguments.every]:
            with fresh_place(Path(folder, "templates")) as place:
                fault = attempt(case, place)
            group = case.kind if case.status else f"{case.kind}, valid"
            tried[group] += 1
            survived[group] += not fault
            if fault:
                print(f"{case.name}: {fault}", flush=True)
    print(f"{survived.total()} of {tried.total()} survived, {time.monotonic() - started:.0f} s")
    if not arguments.kind and arguments.every == 1:
        store(PART, COMMAND, time.monotonic() - started, [Row(name, tried[name], survived[name]) for name in tried])
    if survived != tried:
        sys.exit(1)


if __name__ == "__main__":
    main()
