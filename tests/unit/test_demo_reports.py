"""The output of `make demo` and `make demo-all`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from demo import families, stopwatch, summary
from demo.draw import circo
from demo.wanted import judged
from spn4cir.composers import COMPOSERS
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import average_precision

ROOT = Path(__file__).parents[2]


def test_the_summary_shows_both_stages_and_the_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "recall_at1": 30.0,
        "mean_recall5_subset1": 61.5,
        "counts": {"queries": {"val": 12}},
        "stage1": {"recall_at1": 25.5, "mean_recall5_subset1": 62.0},
    }
    (tmp_path / "demo_cirr").mkdir()
    (tmp_path / "demo_cirr/clip.json").write_text(json.dumps(metrics))
    rules = {rule: {"recall_at1": 10.0, "mean_recall5_subset1": 20.0} for rule in ("sum", "text", "image", "slerp")}
    (tmp_path / "demo_cirr/baselines.json").write_text(json.dumps({"local-dir:clip": rules}))
    summary.main(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:9]] == [
        ["R@1", "mean"],
        ["text", "only", "10.00", "20.00"],
        ["image", "only", "10.00", "20.00"],
        ["sum", "10.00", "20.00"],
        ["stage", "1", "25.50", "62.00"],
        ["stage", "2", "30.00", "61.50"],
        ["gain", "+4.50", "-0.50"],
    ]


def test_a_lock_that_a_run_changed_is_to_be_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo_cirr").mkdir()
    (tmp_path / "demo_cirr/clip.json").write_text(json.dumps({"counts": {"queries": {}}, "stage1": {}}))
    for name in ("dvc.lock", "demo/dvc.lock", "metrics/demo_cirr/clip.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("one")
    assert summary.is_locked(), "without a repository"
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], check=True)
    summary.main(tmp_path)
    assert "git commit" not in capsys.readouterr().out
    (tmp_path / "metrics/demo_cirr/clip.json").write_text("two")
    assert not summary.is_locked(), "the scores of this machine"
    (tmp_path / "dvc.lock").write_text("two")
    summary.main(tmp_path)
    command = 'git commit -m "Build the demo" dvc.lock demo/dvc.lock metrics'
    assert command in capsys.readouterr().out
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    subprocess.run(["bash", "-c", command], check=True)
    assert summary.is_locked()


CAPTIONER = {"mean": 96.0, "min": 62.8, "worst": "garment.neck"}


def test_a_figure_below_what_is_wanted_is_kept_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    content = judged("captioner", CAPTIONER, {"mean": 95.0, "min": 85.0})
    assert content == {**CAPTIONER, "wanted": {"mean": 95.0, "min": 85.0}, "below": ["min"]}
    assert capsys.readouterr().err.splitlines() == [
        "warning: the demo's captioner is weaker than wanted and is used as it is: "
        "min (garment.neck) is 62.8, wanted at least 85"
    ]


def test_a_figure_that_is_just_what_is_wanted_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged("encoder", {"scene_gain": 1.3}, {"scene_gain": 1.3})["below"] == []
    assert capsys.readouterr().err == ""


def test_the_summary_names_weak_models_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, models = tmp_path / "metrics", tmp_path / "models"
    written = {
        metrics / "demo_cirr/clip.json": {"counts": {"queries": {}}, "stage1": {}},
        metrics / "demo/captioner.json": judged("captioner", CAPTIONER, {"mean": 95.0, "min": 85.0}),
        metrics / "demo/encoder.json": {"scene_gain": 2.0},
        models / "demo_fiq/stage1/blip/measured.json": judged("blip", {"recall_at1": 9.0}, {"recall_at1": 15.0}),
    }
    for file, content in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    summary.main(metrics, models)
    out = capsys.readouterr().out
    assert f"  captioner: min (garment.neck) is 62.8, wanted at least 85 ({metrics}/demo/captioner.json)\n" in out
    assert "  blip: recall_at1 is 9, wanted at least 15 (" in out
    assert "encoder" not in out
    assert "docs/demo-models.md" in out
    assert out.index("Weaker than wanted") < out.index("Next, with the environment active")
    (metrics / "demo/captioner.json").unlink()
    (models / "demo_fiq/stage1/blip/measured.json").unlink()
    summary.main(metrics, models)
    assert "Weaker" not in capsys.readouterr().out


def test_a_summary_without_metrics_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run: make demo"):
        summary.main(tmp_path)


def measured(dataset: str, removed: bool) -> dict[str, Any]:
    """Returns metrics in which all scores of stage 1 are 20 % and those of stage 2 are 30 %."""
    keys = [key for key, *_ in families.SCORES[dataset]]
    galleries = {"demo_fiq": {"dress": 401, "shirt": 401}, "demo_cirr": {"val": 501}, "demo_circo": {"val": 501}}
    protocol = {"reference": "removed from the ranking" if removed else "kept in the ranking"}
    counts = {"gallery": galleries[dataset], "targets": {"val": {"1": 3, "4": 1}}}
    before, after = dict.fromkeys(keys, 20.0), dict.fromkeys(keys, 30.0)
    return {**after, "stage1": before, "counts": counts, "protocol": protocol}


def test_every_family_is_in_the_table() -> None:
    assert set(families.FAMILIES) == set(COMPOSERS)


def test_the_families_command_is_what_dvc_takes(tmp_path: Path) -> None:
    arguments = get_main_parser().parse_args(families.COMMAND[1:])
    assert arguments.tmp_dir
    models, benchmarks, drawn = arguments.set_param
    assert models == "run.models=[clip,tgcir,blip,blip2,zs,zs_cc]"
    assert drawn == "demo/params.yaml:drawn=[demo_fiq,demo_cirr,demo_circo]"
    modified = {"run": {"benchmarks": []}}
    Path(tmp_path / "params.yaml").write_text(json.dumps(modified))
    apply_overrides(tmp_path / "params.yaml", [benchmarks])
    written = YAML(typ="safe").load(tmp_path / "params.yaml")
    assert written["run"]["benchmarks"] == [{"name": "demo_circo", "weights": "demo_cirr"}]


@pytest.mark.parametrize(("removed", "k", "ranked", "percent"), [(True, 5, None, 1.0), (False, 5, None, 500 / 501)])
def test_chance_counts_what_is_ranked(removed: bool, k: int, ranked: int | None, percent: float) -> None:
    assert families.chance(measured("demo_cirr", removed), "recall_at5", k, ranked) == pytest.approx(percent)


def test_chance_in_a_subset_leaves_the_gallery_out() -> None:
    assert families.chance(measured("demo_cirr", True), "recall_subset_at1", 1, 5) == 20.0


@pytest.mark.parametrize(("candidates", "targets", "k"), [(12, 1, 5), (12, 3, 2), (7, 7, 10), (30, 4, 10)])
def test_chance_of_several_targets_is_that_of_shuffled_lists(candidates: int, targets: int, k: int) -> None:
    generator = np.random.default_rng(0)
    places = np.sort([generator.permutation(candidates)[:targets] + 1 for _ in range(20_000)])
    assert circo.chance(candidates, targets, k) == pytest.approx(average_precision(places, k).mean(), abs=0.01)


def test_chance_of_precision_weighs_queries_by_their_targets() -> None:
    expected = (3 * circo.chance(500, 1, 10) + circo.chance(500, 4, 10)) / 4
    assert families.chance(measured("demo_circo", True), "map_at10", 10, None) == pytest.approx(100 * expected)


def test_the_families_table_gives_chance_both_stages_and_times() -> None:
    pairs = [(dataset, family) for dataset in families.DATASETS for family in families.FAMILIES]
    found = {(dataset, family): measured(dataset, True) for dataset, family in pairs}
    seconds = {"checkpoint@demo_cirr-zs": 40.2, "train@demo_cirr-zs": 20.2, "train@demo_cirr-zs_cc": 7.0, "clip": 60.0}
    lines = families.report(found, seconds).splitlines()
    assert "| zs | 0.2 | 20.0 | 30.0 | 1.0 | 20.0 | 30.0 | 20.0 | 20.0 | 30.0 | 60 |" in lines
    assert "| tgcir | 2.5 | 20.0 | 30.0 | 12.5 | 20.0 | 30.0 |  |" in lines
    assert "The stages that pairs share (images, base models, captions, matches) took 60 seconds." in " ".join(lines)


def test_the_stopwatch_times_stages_that_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "Stage 'demo/dvc.yaml:draw@demo_fiq' is cached - skipping run, checking out outputs",
        "Running stage 'demo/dvc.yaml:clip':",
        "> python -m demo.models.clip",
        "Running stage 'train@demo_fiq-clip':",
        "Updating lock file 'dvc.lock'",
        "Stage 'validate@demo_fiq-clip' is cached - skipping run, checking out outputs",
    ]
    now = iter([1.0, 61.0, 61.0, 81.5])
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: next(now))
    watch = stopwatch.Stopwatch({"validate@demo_fiq-clip": 9.0, "clip": 1.0})
    for line in lines:
        watch.follow(line)
    watch.stop()
    assert watch.seconds == {"validate@demo_fiq-clip": 9.0, "clip": 60.0, "train@demo_fiq-clip": 20.5}
    assert capsys.readouterr().out.splitlines() == lines
