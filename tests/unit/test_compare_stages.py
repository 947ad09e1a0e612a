"""Stage 2 of a run against its stage 1."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.comparison.compare import ComparedRuns, compare_runs
from spn4cir.comparison.query_pairs import pair_queries
from spn4cir.comparison.runs import Run, read_runs
from spn4cir.comparison.stages import compare_stages
from spn4cir.errors import InputError
from tests.helpers.runs import CIRR_A, CIRR_B, write_run

ANSWER = ("rank", "subset_rank", "top")


def read_run(path: Path) -> Run:
    (run,) = read_runs(str(path)).values()
    return run


@pytest.fixture
def alone(tmp_path: Path) -> list[Path]:
    """Two metrics files of CIRR."""
    return [write_run(tmp_path / f"metrics/{n}/a.json", "cirr", o, tmp_path) for n, o in (("a", CIRR_A), ("b", CIRR_B))]


@pytest.fixture
def both(alone: list[Path]) -> Path:
    """The second file with the first one as its stage 1."""
    before, after = (pq.read_table(path.with_suffix(".parquet")) for path in alone)
    for name in ANSWER:
        after = after.append_column(f"stage1_{name}", before[name])
    pq.write_table(after, alone[1].with_suffix(".parquet"))
    content = json.loads(alone[1].read_text())
    scores = {key: value for key, value in json.loads(alone[0].read_text()).items() if isinstance(value, float)}
    alone[1].write_text(json.dumps(content | {"stage1": scores}))
    return alone[1]


def change_table(path: Path, name: str, column: pa.Array | None) -> None:
    file = path.with_suffix(".parquet")
    table = pq.read_table(file)
    place = table.column_names.index(name)
    pq.write_table(table.remove_column(place) if column is None else table.set_column(place, name, column), file)


def test_stages_are_compared_like_two_runs(alone: list[Path], both: Path) -> None:
    """Scores, intervals and queries are those of the two files, ranks within CIRR's groups included."""
    a, b = (read_run(path) for path in alone)
    found: ComparedRuns = compare_stages(read_run(both))
    assert found.comparison == compare_runs(a, b)
    assert "recall_subset_at1" in found.comparison.scores
    assert pair_queries(found.a, found.b) == pair_queries(a, b)


@pytest.mark.parametrize("name", ANSWER)
def test_a_table_without_the_answers_of_stage_1_is_refused(both: Path, name: str) -> None:
    change_table(both, f"stage1_{name}", None)
    with pytest.raises(InputError, match=rf"its table of queries has no column 'stage1_{name}'; run validate again"):
        compare_stages(read_run(both))


def test_ranks_that_do_not_give_the_scores_of_stage_1_are_refused(both: Path) -> None:
    change_table(both, "stage1_rank", pa.array([40] * 4))
    with pytest.raises(InputError, match=r"stage 1: its table of queries gives recall_at1 0\.00, the file says"):
        compare_stages(read_run(both))


def test_a_file_without_scores_of_stage_1_is_refused(alone: list[Path]) -> None:
    with pytest.raises(InputError, match=r"has no scores of stage 1; run the validate stage again"):
        compare_stages(read_run(alone[0]))
