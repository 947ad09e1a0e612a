"""Writes docs/benchmarks.md from the JSON of a run: `make bench`."""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.real.page import section_of, with_section

_HEAD = """\
# Benchmarks

`make bench` (`pytest tests/bench`) writes this page and checks the limits: each test compares with the bare operation
in the same run. `make bench BENCHES="loss bank"` measures some of the groups and keeps the other rows. Machine: {cpu},
{cores} cores; Python {python}.

| benchmark | seconds (fastest) | figures | date |
|---|---|---|---|
"""


def render(report: dict[str, Any], kept: str = "") -> str:
    """Returns the Markdown of a pytest-benchmark report.

    Args:
        report: the content of the JSON file.
        kept: a page whose rows stay where the report has no row of this benchmark.
    """
    machine = report["machine_info"]
    cpu = machine["cpu"]
    head = _HEAD.format(
        cpu=cpu.get("brand_raw", machine["machine"]), cores=cpu.get("count", "?"), python=machine["python_version"]
    )
    rows = {_name(row): row for row in kept.splitlines(keepends=True) if row.startswith("| ") and ": " in _name(row)}
    new = (_row(each, report["datetime"][:10]) for each in report["benchmarks"])
    rows |= {_name(row): row for row in new}
    return head + "".join(rows[name] for name in sorted(rows))


def _name(row: str) -> str:
    """Returns the first cell."""
    return row.split(" | ")[0].removeprefix("| ")


def _row(benchmark: dict[str, Any], date: str) -> str:
    file = Path(benchmark["fullname"].split("::")[0]).stem.removeprefix("test_bench_")
    name = benchmark["name"].removeprefix("test_").replace("_", " ")
    figures = ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in benchmark["extra_info"].items())
    return f"| {file}: {name} | {benchmark['stats']['min']:.4g} | {figures} | {date} |\n"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.table", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the rows of benchmarks that did not run")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    before = arguments.page.read_text(encoding="utf-8")
    section = section_of(before)
    table = render(json.loads(arguments.report.read_text()), before.replace(section, "") if arguments.keep else "")
    arguments.page.write_text(with_section(table, section), encoding="utf-8")


if __name__ == "__main__":
    main()
