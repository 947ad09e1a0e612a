"""Writes docs/benchmarks.md from the JSON of a run: `make bench`."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.real.page import section_of, with_section

_HEAD = """\
# Benchmarks

`make bench` (`pytest tests/bench`) writes this page and checks the limits: each test compares with the bare operation
in the same run. Machine: {cpu}, {cores} cores; Python {python}; {date}.

| benchmark | seconds (fastest) | figures |
|---|---|---|
"""


def render(report: dict[str, Any]) -> str:
    """Returns the Markdown of a pytest-benchmark report."""
    machine = report["machine_info"]
    cpu = machine["cpu"]
    head = _HEAD.format(
        cpu=cpu.get("brand_raw", machine["machine"]),
        cores=cpu.get("count", "?"),
        python=machine["python_version"],
        date=report["datetime"][:10],
    )
    return head + "".join(_row(each) for each in sorted(report["benchmarks"], key=lambda each: each["fullname"]))


def _row(benchmark: dict[str, Any]) -> str:
    file = Path(benchmark["fullname"].split("::")[0]).stem.removeprefix("test_bench_")
    name = benchmark["name"].removeprefix("test_").replace("_", " ")
    figures = ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in benchmark["extra_info"].items())
    return f"| {file}: {name} | {benchmark['stats']['min']:.4g} | {figures} |\n"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    page = Path("docs/benchmarks.md")
    table = render(json.loads(Path(sys.argv[1]).read_text()))
    page.write_text(with_section(table, section_of(page.read_text(encoding="utf-8"))), encoding="utf-8")
