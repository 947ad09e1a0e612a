"""An adjusted ranking is compared with the plain ranking of its run, and the report shows both."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spn4cir.comparison.adjusted import compare_adjusted
from spn4cir.comparison.runs import Run, read_runs
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.report.page import render
from stages.common import Job
from stages.run_results import collect
from tests.helpers.reports import write_run

METRICS = Path("metrics/demo_fiq/clip.json")
QUERIES = Path("data/validate/demo_fiq/clip/queries.parquet")
ADJUSTED = QUERIES.parent / "adjusted"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adjust(name: str) -> dict[str, float]:
    """Adds an adjusted ranking whose ranks are those of stage 1; returns its scores."""
    table = pq.read_table(QUERIES)
    table = table.set_column(table.column_names.index("rank"), "rank", table["stage1_rank"])
    ADJUSTED.mkdir(exist_ok=True)
    pq.write_table(
        table.select([column for column in table.column_names if not column.startswith("stage1_")]),
        ADJUSTED / f"{name}.parquet",
    )
    metrics = json.loads(METRICS.read_text())
    METRICS.write_text(json.dumps(metrics | {name: metrics["stage1"]}))
    return metrics["stage1"]


def run() -> Run:
    return read_runs(str(METRICS))["demo_fiq", "clip"]


def test_each_adjusted_ranking_is_compared_with_the_plain_one(project: Path) -> None:
    assert compare_adjusted(run()) == {}
    expected = adjust("rerank")
    assert compare_adjusted(run()).keys() == {"rerank"}
    adjust("hubness")
    found = compare_adjusted(run())
    assert list(found) == ["hubness", "rerank"]
    scores = found["hubness"].scores
    assert {name: score.b for name, score in scores.items()} == pytest.approx(expected)
    assert {name: score.a for name, score in scores.items()} == pytest.approx(run().scores)
    first = scores["average_recall_at10"]
    assert first.low <= first.difference <= first.high
    assert first.difference < 0


def test_a_table_that_does_not_yield_the_scores_is_refused(project: Path) -> None:
    adjust("hubness")
    (ADJUSTED / "hubness.parquet").write_bytes(QUERIES.read_bytes())
    with pytest.raises(InputError, match=r"clip.json, hubness: its table of queries gives"):
        compare_adjusted(run())


def test_the_report_shows_an_adjusted_ranking_only_if_it_was_scored(project: Path) -> None:
    job = Job(load_params(), "demo_fiq", "clip")
    plain = render(collect(job), job.params.report)
    assert "Adjusted ranking" not in plain
    scores = adjust("hubness")
    page = render(collect(job), job.params.report)
    (table,) = page.split("<h3>Adjusted ranking: hubness</h3>")[1:]
    table = table.split("</table>")[0]
    metrics = json.loads(METRICS.read_text())
    for value in (metrics["average_recall_at10"], scores["average_recall_at10"]):
        assert f'<td class="number">{value:.2f}</td>' in table
    assert table.count("<tr>") == 1 + len(scores)
