"""The stage-1 weights of a run as a run of their own, so that both stages are compared like any two runs."""

import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.comparison.compare import ComparedRuns, compare_runs
from spn4cir.comparison.runs import Run
from spn4cir.errors import InputError
from spn4cir.evaluation.query_columns import STAGE1

_ANSWER = ("rank", "subset_rank", "top", "target_ranks")


def compare_stages(run: Run) -> ComparedRuns:
    """Compares stage 2 of a run with its stage 1.

    Raises InputError if the metrics file or its table of queries lacks the answers of stage 1, or if the two disagree.
    """
    before = stage1_run(run)
    return ComparedRuns(run.place, before, run, compare_runs(before, run))


def stage1_run(run: Run) -> Run:
    """The scores and answers of the stage-1 weights of a run.

    Raises InputError if the metrics file has no scores of stage 1, or the table of queries no answers of stage 1.
    """
    scores = run.metrics.get("stage1")
    if not isinstance(scores, dict):
        raise InputError(f"{run.label}: has no scores of stage 1; run the validate stage again")
    table = _stage1_table(run)

    def read(name: str) -> bytes:
        if name != run.metrics["queries"]:
            return run.read(name)
        stream = io.BytesIO()
        pq.write_table(table, stream)
        return stream.getvalue()

    metrics = {key: value for key, value in run.metrics.items() if key not in run.scores} | scores
    return replace(run, label=f"{run.label}, stage 1", metrics=metrics, read=read)


def _stage1_table(run: Run) -> pa.Table:
    table = run.table
    for name in (name for name in _ANSWER if name in table.column_names):
        if STAGE1 + name not in table.column_names:
            raise InputError(f"{run.label}: its table of queries has no column '{STAGE1}{name}'; run validate again")
        table = table.set_column(table.column_names.index(name), name, table[STAGE1 + name])
    return table
