"""`spn4cir compare`: runs of known ranks, on disk, in revisions and experiments, and the paper."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from typer.testing import CliRunner

from demo.experiments import metrics_at
from spn4cir.cli import app
from spn4cir.comparison.runs import read_runs
from spn4cir.extras import install_command
from tests.helpers.layouts import write
from tests.helpers.runs import CIRR_A, CIRR_B, FIQ_A, FIQ_B, commit_runs, write_run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder outside of any repository."""
    monkeypatch.chdir(tmp_path)


def call(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_two_files(tmp_path: Path) -> None:
    """Dress at 10: two of four won, one lost; the file has a, b, difference, interval and verdict of each score."""
    a = write_run(tmp_path / "a.json", "fashioniq", FIQ_A, tmp_path)
    b = write_run(tmp_path / "b.json", "fashioniq", FIQ_B, tmp_path)
    result = call(a, b, "--json", "out/found.json")
    found = json.loads(Path("out/found.json").read_text())
    assert found.pop("too_few_queries").startswith("9 queries are too few for a conclusion")
    assert list(found) == list(json.loads(a.read_text()))[:9]
    assert all(list(entry) == ["a", "b", "difference", "low", "high", "verdict"] for entry in found.values())
    dress = found["dress_recall_at10"]
    assert (dress["a"], dress["b"], dress["difference"]) == (50.0, 75.0, 25.0)
    assert dress["low"] < 0 < dress["high"]
    assert found["average_recall_at10"]["difference"] == pytest.approx(25 / 3)
    same = {"a": 200 / 3, "b": 200 / 3, "difference": 0, "low": 0, "high": 0, "verdict": "too few queries"}
    assert found["shirt_recall_at10"] == same
    assert line(result.stdout, "dress_recall_at10").split()[-5:] == ["2", "1", "too", "few", "queries"]
    assert line(result.stdout, "average_recall_at10").split()[-5:-3] == ["2", "1"]
    assert "ranks: B is better at 2 queries, worse at 2, the same at 5" in result.stdout
    assert "noise" not in result.stdout


def test_a_run_beside_itself(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    call(a, a, "--json", "o.json")
    found = json.loads(Path("o.json").read_text())
    del found["too_few_queries"]
    for entry in found.values():
        assert (entry["difference"], entry["low"], entry["high"]) == (0, 0, 0)


def test_a_difference_beyond_noise_is_told_by_its_sign(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a.json", "cirr", {"val": [(9, 2)] * 60}, tmp_path)
    b = write_run(tmp_path / "b.json", "cirr", {"val": [(2, 2)] * 30 + [(9, 2)] * 30}, tmp_path)
    assert "No score differs by more than noise: every interval contains 0." in call(a, a).stdout
    for first, second, verdict in ((a, b, "better"), (b, a, "worse")):
        result = call(first, second, "--json", "o.json")
        assert line(result.stdout, "recall_at5").endswith(verdict)
        assert line(result.stdout, "mean_recall5_subset1").endswith(verdict)
        assert "6 of 8 scores differ by no more than noise" in result.stdout
        found = json.loads(Path("o.json").read_text())
        assert found["recall_at5"]["verdict"] == verdict
        assert "too_few_queries" not in found


@pytest.mark.parametrize("queries", [1, 49])
def test_few_queries_give_no_verdict(tmp_path: Path, queries: int) -> None:
    """A single query that is won has the interval [100, 100], which is meaningless for others."""
    a = write_run(tmp_path / "a.json", "cirr", {"val": [(9, 2)] * queries}, tmp_path)
    b = write_run(tmp_path / "b.json", "cirr", {"val": [(2, 2)] * queries}, tmp_path)
    said = call(a, b, "--json", "o.json").stdout
    assert line(said, "recall_at5").endswith("too few queries")
    assert line(said, "recall_at10").endswith("too few queries")
    assert "noise" not in said
    (remark,) = (each for each in said.splitlines() if "fewer than 50" in each)
    assert remark.startswith(f"{queries} queries are too few for a conclusion")
    assert remark.endswith("about 1,742 are needed.")
    found = json.loads(Path("o.json").read_text())
    assert found["recall_at5"]["verdict"] == "too few queries"
    assert f"{found['too_few_queries']}." == remark


def test_few_queries_of_a_category_are_named_by_one_line(tmp_path: Path) -> None:
    """Enough queries in all, too few of each category."""
    a = write_run(tmp_path / "a.json", "fashioniq", {split: [12] * 20 for split in FIQ_A}, tmp_path)
    b = write_run(tmp_path / "b.json", "fashioniq", {split: [2] * 20 for split in FIQ_A}, tmp_path)
    said = call(a, b, "--json", "o.json").stdout
    assert line(said, "dress_recall_at10").endswith("too few queries")
    assert line(said, "average_recall_at10").endswith("better")
    (remark,) = (each for each in said.splitlines() if "fewer than 50" in each)
    assert remark == "Scores of fewer than 50 queries get no verdict: their intervals are too narrow."
    assert "too_few_queries" not in json.loads(Path("o.json").read_text())


def test_subset_ranks_count_in_the_mean(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    b = write_run(tmp_path / "b.json", "cirr", CIRR_B, tmp_path)
    result = call(a, b, "--json", "o.json")
    found = json.loads(Path("o.json").read_text())
    assert found["recall_subset_at1"]["difference"] == found["recall_at5"]["difference"] == 0
    assert found["mean_recall5_subset1"]["a"] == 50
    assert line(result.stdout, "recall_subset_at1").split()[-5:-3] == ["1", "1"]
    assert line(result.stdout, "mean_recall5_subset1").split()[-4] == line(result.stdout, "mean").split()[-4]


def test_several_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    names = [
        write_run(tmp_path / f"{name}.json", "cirr", outcome, tmp_path)
        for name, outcome in (("a", CIRR_A), ("b", CIRR_B), ("c", CIRR_A))
    ]
    call(*names, "--json", "o.json")
    found = json.loads(Path("o.json").read_text())
    assert list(found) == [str(names[1]), str(names[2])]
    assert found[str(names[1])]["recall_at5"]["b"] == 50
    assert found[str(names[2])]["recall_at5"]["difference"] == 0


def test_other_queries_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    b = write_run(tmp_path / "b.json", "cirr", {"val": [(1, 1)] * 3}, tmp_path)
    said = call(a, b, status=1).stderr
    assert "their queries differ (1 of 4 are only in the first, 0 of 3 only in the second)" in said
    assert said.count("\n") == 1


def test_other_protocols_are_told(tmp_path: Path) -> None:
    """Family and preprocessing belong to the network."""
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    b = write_run(
        tmp_path / "b.json", "cirr", CIRR_B, tmp_path, family="blip", preprocess={}, reference="kept in the ranking"
    )
    said = call(a, b).stderr
    assert said.count("warning") == 1
    assert "differ, reference: removed from the ranking / kept in the ranking" in said


def _without(path: Path, key: str) -> str:
    content = json.loads(path.read_text())
    del content[key]
    return json.dumps(content)


def test_a_table_of_another_run_is_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    b = write_run(tmp_path / "b.json", "cirr", CIRR_B, tmp_path)
    b.with_suffix(".parquet").write_bytes(a.with_suffix(".parquet").read_bytes())
    said = call(a, b, status=1).stderr
    assert "b.json: its table of queries gives recall_at10 75.00" not in said
    assert "they belong to two runs: commit metrics with dvc.lock, or dvc checkout, or run validate again" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.with_suffix(".parquet").unlink(), "a.parquet is missing; run dvc pull"),
        (lambda a: a.with_suffix(".parquet").write_bytes(b"x"), "a.parquet is not a parquet file"),
        (lambda a: a.write_text('{"protocol": {}}'), "is not a metrics file (counts: field required); give one that"),
        (lambda a: a.write_text(_without(a, "queries")), "names no table of queries; run validate again"),
        (
            lambda a: a.write_text(_without(a, "counts")),
            "is not a metrics file (counts: field required); give one that",
        ),
        (lambda a: a.write_text("{}"), "is not a metrics file; give one that spn4cir validate wrote"),
        (lambda a: a.write_text("{"), "is not valid JSON"),
        (lambda a: a.unlink(), "a.json: no such metrics file; write one with: spn4cir validate --json"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, change: Any, said: str) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    change(a)
    result = call(a, a, status=1)
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_wrong_calls_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    assert "compare takes two or more runs" in call(a, status=1).stderr
    assert "--to paper takes one run, got 2" in call(a, a, "--to", "paper", status=1).stderr
    assert "is a folder; give the name of a file" in call(a, a, "--json", tmp_path, status=1).stderr
    assert "and this folder is not in a DVC repository" in call("main", a, status=1).stderr
    monkeypatch.setitem(sys.modules, "dvc.api", None)
    assert f"a revision or an experiment needs DVC; run {install_command('dvc')}" in call("main", a, status=1).stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project at the root of a git repository."""
    return commit_runs(tmp_path_factory.mktemp("repository"), ".")


@pytest.fixture(scope="module", params=["", ".dvc"], ids=["git alone", "with DVC at its root"])
def inner_project(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A project in a folder of a repository, which may have a DVC project at its root as well."""
    top = tmp_path_factory.mktemp("monorepo")
    if request.param:
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=top, check=True)
        Repo.init(str(top)).close()
    return commit_runs(top, "apps/my [shop]")


def test_revisions(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scores of several data sets are prefixed with their names; a file is compared with the run of its place."""
    monkeypatch.chdir(repository / "data")
    call("first", "second", "--json", tmp_path / "o.json")
    found = json.loads((tmp_path / "o.json").read_text())
    assert len(found) == 9 + 8 + 2
    assert found["fiq/clip/dress_recall_at10"]["difference"] == 25
    assert found["cirr/clip/too_few_queries"].startswith("4 queries")
    call("first", "main", "--dataset", "cirr", "--json", tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["recall_at10"]["a"] == 75
    call("first", "../metrics/fiq/clip.json", "--json", tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["dress_recall_at10"]["b"] == 75
    said = call("first", "second", "--family", "blip", status=1).stderr
    assert "first: has no run of that data set and family; it has " in said
    assert "nosuch: no such metrics file, revision or experiment" in call("first", "nosuch", status=1).stderr
    elsewhere = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    assert "select them by --dataset and --family" in call(elsewhere, "first", status=1).stderr


@pytest.mark.parametrize("place", [".", "data/fiq"])
def test_revisions_of_a_project_in_a_folder_of_a_repository(
    inner_project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """The command works in the project's root and in a folder below it; paths are relative to the project."""
    monkeypatch.chdir(inner_project / place)
    call("first", "HEAD", "--json", tmp_path / "o.json")
    found = json.loads((tmp_path / "o.json").read_text())
    assert len(found) == 9 + 8 + 2
    assert found["fiq/clip/dress_recall_at10"]["difference"] == 25
    assert read_runs("first")["fiq", "clip"].label == "first:metrics/fiq/clip.json"
    (inner_project / ".dvc" / "cache").rename(tmp_path / "cache")
    try:
        said = call("first", "HEAD", status=1).stderr
    finally:
        (tmp_path / "cache").rename(inner_project / ".dvc" / "cache")
    assert "first: data/cirr/queries.parquet is neither in DVC's cache nor in a remote" in said


def test_a_link_to_a_project_in_a_folder_of_a_repository(
    inner_project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(inner_project)
    monkeypatch.chdir(tmp_path / "link")
    assert set(read_runs("first")) == {("fiq", "clip"), ("cirr", "clip")}


def test_the_demos_experiments_are_read_from_the_project_too(
    inner_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inner_project)
    assert metrics_at("first", "fiq", "clip")["dress_recall_at10"] == 50.0


def test_above_a_project_it_says_what_is_missing(inner_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder belongs to no project, or to another one."""
    monkeypatch.chdir(inner_project.parent)
    nested = (inner_project.parents[1] / ".dvc").is_dir()
    outside = "this folder is not in a DVC repository; name a file, or change into the folder of the project"
    expected = "first: the revision contains no metrics/<data set>/<family>.json" if nested else outside
    assert expected in call("first", "HEAD", status=1).stderr


def test_a_table_that_the_cache_lacks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    cache = repository / ".dvc" / "cache"
    cache.rename(cache.with_name("away"))
    try:
        said = call("first", "second", status=1).stderr
    finally:
        cache.with_name("away").rename(cache)
    assert "queries.parquet is neither in DVC's cache nor in a remote; run dvc fetch --all-commits" in said


def test_a_revision_without_metrics(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    tree = subprocess.run(["git", "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    command = ["git", "commit-tree", tree, "-m", "nothing"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert "the revision contains no metrics/<data set>/<family>.json" in call(commit, "first", status=1).stderr


OFFICIAL = {"dress": 3817, "shirt": 6346, "toptee": 5373}


def published_size(path: Path) -> None:
    content = json.loads(path.read_text())
    content["counts"] = {"queries": {"dress": 2017, "shirt": 2038, "toptee": 1961}, "gallery": OFFICIAL}
    path.write_text(json.dumps(content))


def test_the_paper_beside_a_run(tmp_path: Path) -> None:
    """A run of the published size and protocol is comparable; unknown weights are reported."""
    path = write_run(tmp_path / "a.json", "fashioniq", FIQ_A, tmp_path)
    published_size(path)
    result = call("--to", "paper", path, "--json", "o.json")
    found = json.loads(Path("o.json").read_text())
    assert found["average_recall_at10"]["paper"] == 44.48
    assert found["average_recall_at10"]["paper_stage1"] == 42.52
    ours = json.loads(path.read_text())["average_recall_at10"]
    assert found["average_recall_at10"]["ours"] == ours
    assert found["average_recall_at10"]["difference"] == pytest.approx(ours - 44.48)
    assert found["average_recall_at10"]["comparable"] is True
    assert "comparable: data and protocol are the paper's" in result.stdout
    assert "it is not recorded which weights were scored" in result.stdout
    assert "arXiv 2404.11317" in result.stdout


def test_what_differs_from_the_paper_is_named(tmp_path: Path) -> None:
    """Other data, a kept reference, another network or a stage 1 trained here are not comparable."""
    path = write_run(
        tmp_path / "metrics" / "d" / "clip.json",
        "fashioniq",
        FIQ_A,
        tmp_path,
        reference="kept in the ranking",
        preprocess={"size": 32},
    )
    origin = tmp_path / "data" / "checkpoint" / "d" / "clip" / "source.json"
    origin.parent.mkdir(parents=True)
    origin.write_text('{"source": "train"}')
    result = call("--to", "paper", path, "--json", "o.json")
    said = line(result.stdout, "not comparable")
    assert said == "not comparable, because these differ: data, reference, network's input, weights"
    entry = json.loads(Path("o.json").read_text())["average_recall_at50"]
    assert entry["comparable"] is False
    assert "reference: the paper's removed from the ranking; ours kept in the ranking" in entry["reasons"]


@pytest.mark.parametrize(
    ("source", "ours"), [("hub", "from the published stage-1 checkpoint"), ("path", "not recorded")]
)
def test_weights_of_a_file_are_not_taken_for_the_published_ones(tmp_path: Path, source: str, ours: str) -> None:
    path = write_run(tmp_path / "metrics" / "d" / "clip.json", "fashioniq", FIQ_A, tmp_path)
    published_size(path)
    write(tmp_path / "data" / "checkpoint" / "d" / "clip" / "source.json", {"source": source})
    said = call("--to", "paper", path).stdout
    assert f"ours:  {ours}\n" in said
    assert ("it is not recorded which weights were scored" in said) == (source == "path")


def test_cirr_is_never_the_papers_split(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path, family="blip2", preprocess={"size": 224})
    said = call("--to", "paper", path).stdout
    assert line(said, "not comparable") == "not comparable, because these differ: data"
    assert "paper: CIRR test1, scored by its server (4,148 queries; gallery test1 2,315)" in said
    assert line(said, "recall_at1").split() == ["recall_at1", "51.96", "55.06", "25.00", "-30.06"]


def test_the_paper_has_no_figures_for_a_recipe_or_another_layout(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path, family="zs")
    said = call("--to", "paper", path, status=1).stderr
    assert "the paper has no scores for family 'zs'; it has scores for tgcir, clip, blip, blip2" in said
    path = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path, captions="the one text as written")
    assert "the paper reports only fashioniq and cirr;" in call("--to", "paper", path, status=1).stderr


def test_the_papers_figures_are_whole() -> None:
    """Covers four families and both stages; a score that contradicts its own columns is shown with a note."""
    import spn4cir.comparison.paper

    paper = json.loads(spn4cir.comparison.paper._FIGURES.read_text())
    for layout, keys in (("fashioniq", 2), ("cirr", 7)):
        assert set(paper["results"][layout]) == set(paper["protocols"][layout]) == {"clip", "tgcir", "blip", "blip2"}
        for stages in paper["results"][layout].values():
            assert [len(stages[stage]) for stage in ("stage1", "stage2")] == [keys, keys]


def test_a_run_is_read_once_and_lazily(tmp_path: Path) -> None:
    """A comparison with the paper needs no table of queries."""
    path = write_run(tmp_path / "a.json", "cirr", CIRR_A, tmp_path)
    path.with_suffix(".parquet").unlink()
    (run,) = read_runs(str(path)).values()
    assert run.scores["recall_at5"] == 50
    call("--to", "paper", path)
