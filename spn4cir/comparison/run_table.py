"""Tables of runs: of each data set and family, the score that selects and the settings that differ, best run first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.comparison.compare import find_runs
from spn4cir.comparison.runs import WORKSPACE, Place, Run, dvc_errors
from spn4cir.comparison.settings import differing, run_settings
from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import too_few_queries

# The scores by which the layouts with a training split select the best epoch.
_SELECTING = ("average_recall", "mean_recall5_subset1")
_UNKNOWN = "?"


class RunTable(NamedTuple):
    """The runs of one data set and family.

    Attributes:
        place: data set and family.
        score: key of the score that selects.
        settings: keys of the settings that differ between the runs.
        rows: name, score in percent and values of the settings of each run, the best first.
        remarks: that runs have too few queries for a conclusion, or scores of other weights than those of the run.
    """

    place: Place
    score: str
    settings: tuple[str, ...]
    rows: tuple[tuple[str, float, tuple[str, ...]], ...]
    remarks: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The table as text."""
        yield f"{'/'.join(self.place)}: {self.score}, percent, the best first"
        cells = [("run", self.score, *self.settings)]
        cells += [(name, f"{score:.2f}", *values) for name, score, values in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for name, score, *values in cells:
            shown = (f"{value:<{width}}" for value, width in zip(values, widths[2:], strict=True))
            yield "  ".join((f"{name:<{widths[0]}}", f"{score:>{widths[1]}}", *shown)).rstrip()
        yield from (f"{remark}." for remark in self.remarks)


def list_runs(commits: int) -> list[str]:
    """The names of the workspace, the last `commits` commits, and their experiments; of all commits if -1.

    Raises InputError without DVC, or outside a project of DVC.
    """
    with dvc_errors(WORKSPACE):
        from dvc.api import exp_show
        from dvc.repo import Repo

        Repo.find_root()  # outside a project, exp_show reports an error of git
        rows = exp_show(num=commits)
    return list(dict.fromkeys(str(row.get("Experiment") or row["rev"]) for row in rows))


def run_tables(names: Sequence[str], dataset: str | None, family: str | None) -> tuple[list[RunTable], list[str]]:
    """The tables of runs, and why some of the names are in none.

    Args:
        names: metrics files, revisions or experiments; `workspace` for the files on disk.
        dataset: restricts revisions to this data set.
        family: restricts revisions to this family.

    Raises:
        InputError: none of the names has a run.
    """
    found: dict[Place, dict[str, Run]] = {}
    reasons: list[str] = []
    for name in names:
        try:
            for place, run in find_runs(name, dataset, family).items():
                found.setdefault(place, {})[name] = run
        except InputError as error:
            reasons.append(str(error))
    if not found:
        raise InputError(
            reasons[0] if reasons else "no runs are named, and DVC lists none; name a metrics file or a revision"
        )
    return [_table(place, runs) for place, runs in found.items()], reasons


def _table(place: Place, runs: Mapping[str, Run]) -> RunTable:
    score = selecting_score(next(iter(runs.values())).scores)
    settings = {name: run_settings(run) for name, run in runs.items()}
    keys = tuple(differing([each.values for each in settings.values() if not each.unknown]))
    rows = [
        (
            name,
            run.scores[score],
            tuple(settings[name].values.get(key, _missing(settings[name].unknown)) for key in keys),
        )
        for name, run in runs.items()
        if score in run.scores
    ]
    remarks = dict.fromkeys(filter(None, (too_few_queries(_queries(run)) for run in runs.values())))
    if earlier := [name for name, run in runs.items() if _scores_earlier_weights(run)]:
        stage = f"validate@{'-'.join(place)}"
        remarks[f"the scores of {', '.join(earlier)} are those of earlier weights; {stage} has not run since"] = None
    return RunTable(place, score, keys, tuple(sorted(rows, key=lambda row: -row[1])), tuple(remarks))


def _scores_earlier_weights(run: Run) -> bool:
    """Whether the `dvc.lock` of a run has other weights as the input of `validate` than as the output of `train`."""
    dataset, family = run.place
    try:
        stages = YAML(typ="safe").load(run.read("../../dvc.lock").decode("utf-8"))["stages"]
        train, validate = (stages[f"{stage}@{dataset}-{family}"] for stage in ("train", "validate"))
    except (InputError, YAMLError, LookupError, TypeError, ValueError):
        return False  # no lock, or a benchmark
    weights = f"data/train/{dataset}/{family}/best.pt"
    return bool(_hash(train.get("outs", ()), weights) != _hash(validate.get("deps", ()), weights))


def _hash(entries: Sequence[Mapping[str, Any]], path: str) -> Any:
    return next((entry.get("md5") for entry in entries if entry.get("path") == path), None)


def _queries(run: Run) -> int:
    """The number of queries, from the metrics file: the table of queries may not be in DVC's cache."""
    return sum(run.metrics["counts"]["queries"].values())


def _missing(unknown: str) -> str:
    return _UNKNOWN if unknown else ""


def selecting_score(scores: Mapping[str, float]) -> str:
    """The key of the score by which the best epoch is selected; the last score of a benchmark, which selects none."""
    return next((key for key in _SELECTING if key in scores), list(scores)[-1])
