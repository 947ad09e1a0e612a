"""The runs of `make demo-models-check`, their file and the page."""

import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo import check_models
from demo.check_models import MODELS, ModelRun, carry_out, finished, matrix, settings_of, train
from demo.check_page import CONDITIONS, FIGURES, SEEDS, Condition, Figure, machine, page, table
from demo.draw.images import write_images
from demo.settings import ImagesSettings, read_settings
from spn4cir.errors import InputError
from spn4cir.json_files import read_json, write_json

ROOT = Path(__file__).parents[2]
PARAMS = YAML(typ="safe").load(ROOT / "demo/params.yaml")
FOUND = CONDITIONS[0]


def test_the_matrix_is_every_model_seed_and_condition_once():
    runs = matrix(MODELS, SEEDS)
    assert len({run.key for run in runs}) == len(runs) == len(MODELS) * SEEDS * 6
    assert {(condition.threads, condition.instructions) for condition in CONDITIONS} == {
        (threads, name) for threads in (1, 2) for name in ("as found", "AVX2", "default")
    }


def test_the_matrix_begins_with_each_condition_and_then_the_seeds_as_the_machine_is():
    runs = [(run.seed, run.condition.instructions) for run in matrix(["encoder"], SEEDS)]
    assert {seed for seed, _ in runs[:6]} == {0}
    seeds = runs[6 : 6 + 2 * (SEEDS - 1)]
    assert {name for _, name in seeds} == {"as found"}
    threads = [run.condition.threads for run in matrix(MODELS, SEEDS)]
    assert threads[:24] == [1] * 12 + [2] * 12, "runs of one thread are neighbours, so that two of them run at a time"
    assert {seed for seed, _ in seeds} == set(range(1, SEEDS))


def test_a_condition_is_an_environment():
    condition = next(each for each in CONDITIONS if each.name == "AVX2, 2 threads")
    assert condition.environment == {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
    assert FOUND.environment == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_seeds_are_shifted_and_what_is_wanted_decides_nothing():
    before = deepcopy(PARAMS)
    settings = settings_of(ModelRun("captioner", 2, FOUND), PARAMS)
    assert settings["clip"]["seed"] == PARAMS["clip"]["seed"] + 200
    assert settings["captioner"]["seed"] == PARAMS["captioner"]["seed"] + 200
    assert settings["images"] == PARAMS["images"]
    assert not any(key.startswith("wanted") for section in settings.values() for key in section)
    assert before == PARAMS


def test_finished_runs_are_kept_as_long_as_their_settings(tmp_path):
    runs = matrix(["encoder", "blip"], 1)
    assert finished(runs, PARAMS, tmp_path / "none.json") == {}
    own = {"machine": machine(), "measured": {}}
    kept = {run.key: {**own, "settings": settings_of(run, PARAMS)} for run in runs}
    write_json(tmp_path / "kept.json", kept)
    other = {key: {**value, "machine": "another"} for key, value in kept.items()}
    write_json(tmp_path / "other.json", other)
    assert finished(runs, PARAMS, tmp_path / "other.json") == {}
    changed = deepcopy(PARAMS)
    changed["encoder"]["steps"] += 1
    changed["blip"]["wanted_recall"] += 1
    assert finished(runs, PARAMS, tmp_path / "kept.json") == kept
    assert set(finished(runs, changed, tmp_path / "kept.json")) == {run.key for run in runs if run.model == "blip"}


def test_the_committed_runs_have_the_committed_settings_and_make_the_page(monkeypatch):
    """Else `make demo-models-check` would train all of them again."""
    path = ROOT / check_models.RESULTS
    kept = read_json(path)
    (trained_on,) = {run["machine"] for run in kept.values()}
    monkeypatch.setattr(check_models, "machine", lambda: trained_on)
    assert finished(matrix(MODELS, SEEDS), PARAMS, path) == kept
    assert page(kept, PARAMS) == (ROOT / check_models.OUT).read_text(encoding="utf-8")


def test_all_runs_are_carried_out(monkeypatch, tmp_path):
    monkeypatch.setattr(check_models, "train", lambda run, params, images, root: {"seed": run.seed})
    runs = matrix(["encoder"], 3)
    done = dict(carry_out(runs, PARAMS, tmp_path))
    assert done == {run: {"seed": run.seed} for run in runs}


def test_a_run_has_its_seed_and_condition(tmp_path, monkeypatch):
    (condition,) = (each for each in CONDITIONS if each.name == "default, 2 threads")
    ran = []

    def record(arguments, cwd, env, **options):
        settings = read_settings(cwd / "demo/params.yaml")
        ran.append((arguments[2], settings.clip.seed, settings.captioner.seed, settings.captioner.wanted_mean_accuracy))
        assert condition.environment.items() <= env.items()
        write_json(cwd / f"{'clip' if arguments[2] == 'demo.models.clip' else 'captioner'}.json", {"of": arguments[2]})
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(check_models.subprocess, "run", record)
    measured = train(ModelRun("captioner", 1, condition), PARAMS, tmp_path, ROOT)
    assert measured == {"clip": {"of": "demo.models.clip"}, "captioner": {"of": "demo.models.llava"}}
    expected = (
        PARAMS["clip"]["seed"] + 100,
        PARAMS["captioner"]["seed"] + 100,
        PARAMS["captioner"]["wanted_mean_accuracy"],
    )
    assert ran == [("demo.models.clip", *expected), ("demo.models.llava", *expected)]


def test_a_run_trains_with_the_commands_of_the_stages(tmp_path):
    params = deepcopy(PARAMS)
    params["images"].update(train_per_kind=8, held_out_per_kind=4)
    params["encoder"].update(steps=1, batch_size=4, width=32, layers=1, embed_dim=8)
    write_images(ImagesSettings(**params["images"]), tmp_path / "images")
    measured = train(ModelRun("encoder", 1, FOUND), params, tmp_path / "images", ROOT)
    assert measured["encoder"]["images"] == 8
    with pytest.raises(InputError, match=r"encoder 1 as found, 1 thread: demo.models.encoder ended with 1: .*nothing"):
        train(ModelRun("encoder", 1, FOUND), params, tmp_path / "nothing", ROOT)


@pytest.mark.parametrize("model", MODELS)
def test_the_commands_are_those_of_the_stages(model):
    stages = YAML(typ="safe").load(ROOT / "demo/dvc.yaml")["stages"]
    options = {word for stage in stages.values() for word in stage["cmd"].split()}
    for command in check_models._COMMANDS[model]:
        module, *words = command.split()
        assert module in options
        assert {word for word in words if word.startswith("--")} <= options


def test_a_table_gives_the_spread_of_the_runs_that_there_are():
    conditions = {Condition(1, "as found"): {0: 90.0, 3: 80.5, 1: 86.0}, Condition(2, "AVX2"): {}}
    lines = table(conditions, 85.0)
    assert lines[2:] == [
        "| as found, 1 thread | 3 | 80.5 | 86 | 90 | 85 | 0: 90, 1: 86, 3: 80.5 |",
        "| AVX2, 2 threads | 0 |  |  |  | 85 | not run |",
        "| all | 3 | 80.5 | 86 | 90 | 85 | 1 of 3 below the wanted value |",
    ]


def test_the_lowest_of_several_figures_counts():
    figure = Figure("blip", "", "*_recall_at1", "wanted_recall")
    assert figure.of({"a_recall_at1": 30.0, "b_recall_at1": 20.5, "chance": 1.0}) == 20.5


def test_the_page_is_of_the_runs_that_there_are():
    measured = {
        "clip": {"garment_recall_at1": 60.0, "scene_recall_at1": 70.0},
        "captioner": {"mean": 97.0, "min": 91.2, "worst": "scene.shape", "apart_min": 1.0},
    }
    text = page({f"captioner 4 {FOUND.name}": {"machine": "a processor", "measured": measured}}, PARAMS)
    assert "Machine: a processor. " in text
    assert "1 of captioner, 1 of clip, 0 of encoder, 0 of blip, 0 of blip2" in text
    assert "| as found, 1 thread | 1 | 91.2 | 91.2 | 91.2 | 85 | 4: 91.2 |" in text
    assert "| as found, 1 thread | 1 | 60 | 60 | 60 | 20 | 4: 60 |" in text
    assert all(f"## {figure.model}: " in text for figure in FIGURES)
