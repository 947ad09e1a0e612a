"""The adjusted rankings of a run as runs of their own, so that they are compared with its plain ranking."""

import posixpath
from dataclasses import replace

from spn4cir.comparison.compare import Comparison, compare_runs
from spn4cir.comparison.runs import Run

# The entries of a metrics file with the scores of an adjusted ranking, in the order of a report.
ADJUSTMENTS = ("hubness", "rerank")


def compare_adjusted(run: Run) -> dict[str, Comparison]:
    """Compares each adjusted ranking of a run with its plain ranking; empty if the run has none.

    Raises InputError if a table of queries is absent or does not yield the scores.
    """
    return {name: compare_runs(run, _adjusted_run(run, name)) for name in ADJUSTMENTS if name in run.metrics}


def _adjusted_run(run: Run, name: str) -> Run:
    queries = posixpath.join(posixpath.dirname(run.metrics["queries"]), "adjusted", f"{name}.parquet")
    others = {key: value for key, value in run.metrics.items() if key not in run.scores}
    return replace(run, label=f"{run.label}, {name}", metrics=others | run.metrics[name] | {"queries": queries})
