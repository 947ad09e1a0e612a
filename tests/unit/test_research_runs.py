"""What `make research` runs, in which order, and what it stores."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from demo.research import runs, store
from demo.research.rows import STAGE1
from demo.research.runs import Research, ResearchJob, in_order
from demo.research.store import Cell, Result, add_results, read_results, results_file
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import RECIPE_KEY, Part, write_recipe
from tests.helpers.research import make_table

RECIPE = {"recall_at1": {Part("val", "rank", 1): 1.0}}


def result(ranks: list[int], key: str = "k", seconds: float | None = 2.5, **more: list[Any]) -> Result:
    columns = {"split": ["val"] * len(ranks), "query": list(range(len(ranks))), "rank": ranks}
    columns["subset_rank"] = [None, *[1] * (len(ranks) - 1)]
    kinds = {"subset_rank": pa.int64(), "target_ranks": pa.list_(pa.int64())}
    table = pa.table({name: pa.array(values, kinds.get(name)) for name, values in (columns | more).items()})
    return Result(key, "train.tau=1", seconds, table.replace_schema_metadata({RECIPE_KEY: write_recipe(RECIPE)}))


def job(run: str, seed: int, family: str = "clip") -> ResearchJob:
    return ResearchJob(run, family, seed, ("demo_fiq",))


def test_results_are_read_as_they_were_added(tmp_path: Path) -> None:
    path = results_file("demo_cirr", 2, tmp_path)
    assert read_results(path) == {}
    add_results(path, {Cell("paper", 1): result([1, 5, 1]), Cell("paper", 2): result([2, 2, 2], seconds=None)})
    add_results(path, {Cell("+N", 1): result([3, 1, 1]), Cell("paper", 1): result([1, 1, 1], key="new")})
    found = read_results(path)
    assert list(found) == [Cell("paper", 1), Cell("paper", 2), Cell("+N", 1)]
    first = found[Cell("paper", 1)]
    assert (first.key, first.settings, first.seconds) == ("new", "train.tau=1", 2.5)
    assert first.table["rank"].to_pylist() == [1, 1, 1]
    assert first.table["subset_rank"].to_pylist() == [None, 1, 1]
    assert found[Cell("paper", 2)].seconds is None
    assert found[Cell("+N", 1)].scores == {"recall_at1": pytest.approx(200 / 3)}
    assert path.name == "demo_cirr-draw2.parquet"


def test_ranks_of_several_targets_are_kept(tmp_path: Path) -> None:
    path = results_file("many", 1, tmp_path)
    add_results(path, {Cell("paper", 1): result([1, 2], target_ranks=[[1], [2, 7]])})
    assert read_results(path)[Cell("paper", 1)].table["target_ranks"].to_pylist() == [[1], [2, 7]]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demo_fiq.parquet"
    path.write_bytes(b"<<<<<<< HEAD")
    with pytest.raises(InputError, match=r"demo_fiq.parquet: is not a table of results .*; remove it"):
        read_results(path)
    store.pq.write_table(pa.table({"row": ["paper"]}), path)
    with pytest.raises(InputError, match="has no column 'key'"):
        read_results(path)


def test_only_what_is_absent_or_has_another_key_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "results_file", lambda dataset, draw: results_file(dataset, draw, tmp_path))
    table = make_table(before={"of": "paper", "answer": STAGE1})
    research = Research(table, 1)
    rows, datasets = ["before", "control"], ["demo_fiq", "demo_cirr"]
    wanted = research.missing(rows, (1, 2), datasets)
    assert [(each.run, each.seed, each.datasets) for each in wanted] == [
        (run, seed, tuple(datasets)) for seed in (1, 2) for run in ("paper", "control")
    ]
    for dataset, seeds in (("demo_fiq", (1, 2)), ("demo_cirr", (1,))):
        for seed in seeds:
            key = research.keys.key("paper", dataset, seed, 1)
            add_results(
                results_file(dataset, 1, tmp_path),
                {Cell(row, seed): result([1, 2], key) for row in ("paper", "before")}
                | {Cell("control", seed): result([1, 2], "of older code")},
            )
    left = [(each.run, each.seed, each.datasets) for each in research.missing(rows, (1, 2), datasets)]
    assert left == [("control", 1, tuple(datasets)), ("paper", 2, ("demo_cirr",)), ("control", 2, tuple(datasets))]
    assert set(research.current("demo_cirr")) == {Cell("paper", 1), Cell("before", 1)}


def test_a_run_stores_each_of_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of a run are stored when it ends, with the time of its training and the key of the run."""
    monkeypatch.setattr(runs, "results_file", lambda dataset, draw: results_file(dataset, draw, tmp_path))
    lines = ["Running stage 'train@demo_fiq-clip':", "Updating lock file 'dvc.lock'"]

    def experiment(arguments: list[str], environment: object, follow: Any, clone: Path) -> str:
        assert clone == Path("clone")
        for line in lines:
            follow(line)
        return "commit"

    monkeypatch.setattr(runs.experiments, "run", experiment)
    monkeypatch.setattr(runs, "read_runs", lambda commit: {("demo_fiq", "clip"): commit})
    monkeypatch.setattr(runs, "_answers", lambda run, answer: result([1, 2] if answer else [1, 1]).table)
    research = Research(make_table(before={"of": "paper", "answer": STAGE1}), 1)
    research._run(job("paper", 3), Path("clone"), {})
    stored = research.current("demo_fiq")
    assert {cell: found.scores["recall_at1"] for cell, found in stored.items()} == {
        Cell("paper", 3): 100.0,
        Cell("before", 3): 50.0,
    }
    took = stored[Cell("paper", 3)].seconds
    assert took is not None
    del lines[0]
    research._run(job("paper", 3), Path("clone"), {})
    assert research.current("demo_fiq")[Cell("paper", 3)].seconds == took, "DVC took the training from its cache"
    assert research.missing(["before"], (3,), ["demo_fiq"]) == []


def test_of_jobs_with_one_stage_1_the_first_ends_before_the_rest() -> None:
    jobs = [job(run, seed) for seed in (1, 2) for run in ("a", "b", "c")]
    ended: list[ResearchJob] = []
    alone: list[bool] = []
    beside, most = 0, 0
    lock = threading.Lock()

    def run(each: ResearchJob) -> None:
        nonlocal beside, most
        with lock:
            beside += 1
            most = max(most, beside)
            alone.append(not any(other.base == each.base for other in ended))
        threading.Event().wait(0.01)
        with lock:
            ended.append(each)
            beside -= 1

    in_order(jobs, 2, run)
    assert ended[0] == jobs[0]
    assert sum(alone) == 2, "one job of each seed begins before another of the seed has ended"
    assert most == 2
    assert sorted(ended, key=jobs.index) == jobs


def test_after_a_failure_no_further_job_starts() -> None:
    tried = []

    def run(each: ResearchJob) -> None:
        tried.append(each)
        raise InputError("it failed")

    with pytest.raises(InputError, match="it failed"):
        in_order([job("a", 1), job("b", 1)], 2, run)
    assert tried == [job("a", 1)]


def test_results_have_their_place_in_the_repository() -> None:
    assert results_file("demo_fiq", 1) == store.FOLDER / "demo_fiq.parquet"
