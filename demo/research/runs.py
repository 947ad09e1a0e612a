"""Runs the experiments of `make research`, several at a time, and stores their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import pyarrow as pa

from demo import experiments
from demo.research.clones import clones
from demo.research.keys import Keys
from demo.research.rows import STAGE1, ResearchTable, command
from demo.research.store import Cell, Result, add_results, read_results, result_of, results_file
from demo.stopwatch import Stopwatch
from spn4cir.comparison.runs import Run, read_runs
from spn4cir.comparison.stages import stage1_run


@dataclass(frozen=True)
class ResearchJob:
    """An experiment: a trained row, a seed, and the data sets whose results are absent.

    Attributes:
        run: name of the row.
        family: its family.
        seed: seed of its training.
        datasets: the data sets.
    """

    run: str
    family: str
    seed: int
    datasets: tuple[str, ...]

    @property
    def base(self) -> tuple[str, int]:
        """What jobs share that start from the same stage 1: DVC takes it from its cache after the first of them."""
        return self.family, self.seed


class Research:
    """The runs of a draw of the data sets.

    Attributes:
        table: the rows.
        draw: number of the draw, from 1.
        keys: the keys of the runs.
    """

    def __init__(self, table: ResearchTable, draw: int) -> None:
        self.table = table
        self.draw = draw
        self.keys = Keys(table)
        self._storing = Lock()

    def current(self, dataset: str) -> dict[Cell, Result]:
        """Returns the stored results of a data set that the present code and settings would give."""
        found = read_results(results_file(dataset, self.draw))
        return {
            cell: result
            for cell, result in found.items()
            if cell.row in self.table.rows and result.key == self._key(cell, dataset)
        }

    def missing(self, rows: Sequence[str], seeds: Sequence[int], datasets: Sequence[str]) -> list[ResearchJob]:
        """Returns the experiments whose results are not stored, in the order of the seeds and the rows."""
        stored = {dataset: self.current(dataset) for dataset in datasets}
        wanted = dict.fromkeys(self.table.run_of(row) for row in rows)
        jobs = []
        for seed in seeds:
            for run in wanted:
                cells = [Cell(row, seed) for row in self.table.answers(run)]
                lacking = tuple(each for each in datasets if not all(cell in stored[each] for cell in cells))
                if lacking:
                    jobs.append(ResearchJob(run, self.table.rows[run].family, seed, lacking))
        return jobs

    def run(self, jobs: Sequence[ResearchJob], workers: int) -> None:
        """Runs experiments, `workers` at a time, and stores the results of each when it ends.

        Raises:
            InputError: tracked files have changes that are not committed, or an experiment fails. Those that run end
                first, and their results are stored.
        """
        with experiments.warm_stages() as environment, clones(workers) as folders:

            def start(job: ResearchJob) -> None:
                with folders.take() as clone:
                    folders.keep_models(self._run(job, clone, environment))

            in_order(jobs, workers, start)

    def _run(self, job: ResearchJob, clone: Path, environment: Mapping[str, str]) -> str:
        watch = Stopwatch({})
        arguments = command(self.table, job.run, job.seed, self.draw, job.datasets)
        commit = experiments.run(arguments, environment, watch.follow, clone)
        watch.stop()
        with self._storing:
            self._store(job, commit, watch.seconds)
        return commit

    def _store(self, job: ResearchJob, commit: str, seconds: Mapping[str, float]) -> None:
        runs = read_runs(commit)
        for dataset in job.datasets:
            run, path = runs[dataset, job.family], results_file(dataset, self.draw)
            took = seconds.get(f"train@{dataset}-{job.family}")
            if took is None and (earlier := read_results(path).get(Cell(job.run, job.seed))):
                took = earlier.seconds  # DVC took the training from its cache
            key = self.keys.key(job.run, dataset, job.seed, self.draw)
            found = {
                Cell(row, job.seed): result_of(key, self.table.described(row), took, _answers(run, answer))
                for row, answer in self.table.answers(job.run).items()
            }
            add_results(path, found)

    def _key(self, cell: Cell, dataset: str) -> str:
        return self.keys.key(self.table.run_of(cell.row), dataset, cell.seed, self.draw)


def in_order(jobs: Sequence[ResearchJob], workers: int, run: Callable[[ResearchJob], None]) -> None:
    """Runs jobs in threads. The first job runs alone, and of jobs that share a base the first one ends before the rest.

    Args:
        jobs: the jobs, in the order in which they are started where the rule allows it.
        workers: number of jobs at a time.
        run: function that runs a job.

    Raises:
        InputError: a job failed; no further one is started, and those that run end first.
    """
    waiting, ended = list(jobs), set[tuple[str, int]]()
    running: dict[Future[None], ResearchJob] = {}
    with ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            started = {job.base for job in running.values()}
            ready = [
                job for job in waiting if job.base in ended or ((ended or not running) and job.base not in started)
            ]
            if ready and len(running) < workers:
                waiting.remove(ready[0])
                running[pool.submit(run, ready[0])] = ready[0]
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                ended.add(running.pop(future).base)


def _answers(run: Run, answer: str | None) -> pa.Table:
    """Returns the table of queries of the trained weights, of stage 1, or of an adjusted ranking."""
    if answer is None:
        return run.table
    if answer == STAGE1:
        return stage1_run(run).table
    folder = str(run.metrics["queries"]).rpartition("/")[0]
    return replace(run, metrics={**run.metrics, "queries": f"{folder}/adjusted/{answer}.parquet"}).table
