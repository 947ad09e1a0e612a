"""The table of `make bench`: what a run measured replaces its rows, and the others stay."""

import json
import sys
from pathlib import Path

import pytest

from tests.bench.table import main
from tests.real.page import END, START


def report(path: Path, date: str, **seconds: float) -> str:
    rows = [
        {
            "fullname": f"tests/bench/test_bench_{name}.py::test_it",
            "name": "test_it",
            "stats": {"min": each},
            "extra_info": {"limit_mb": 1.5, "of": "a: b"},
        }
        for name, each in seconds.items()
    ]
    machine = {"cpu": {"brand_raw": "A", "count": 2}, "machine": "x", "python_version": "3.11.7"}
    path.write_text(json.dumps({"machine_info": machine, "datetime": f"{date}T00:00", "benchmarks": rows}))
    return str(path)


def test_rows_of_other_benchmarks_stay_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    section = f"{START}\n## Real\n\n| stage: x | 1 |\n{END}\n"
    page.write_text(f"# Benchmarks\n\n{section}")

    def write(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["table", "--page", str(page), *arguments])
        main()
        text = page.read_text()
        assert text.endswith(section)
        return [row for row in text.removesuffix(section).splitlines() if row.startswith("| ")][1:]

    b, c = (f"| {name}: it | 2 | limit mb 1.5, of a: b | 2026-01-02 |" for name in "bc")
    assert write(report(tmp_path / "1", "2026-01-02", c=2, b=2)) == [b, c]
    a, new = (f"| {name}: it | {value} | limit mb 1.5, of a: b | 2026-01-03 |" for name, value in (("a", 1), ("b", 3)))
    second = report(tmp_path / "2", "2026-01-03", b=3, a=1)
    assert write(second, "--keep") == [a, new, c]
    assert write(second) == [a, new]
