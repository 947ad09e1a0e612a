"""`spn4cir settings`: what a pair runs with, and where each value is written."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.load import find_merged, load_params
from spn4cir.config.pair_settings import describe_pair, pair_settings, short_key

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """Value and origin by key, of fiq and blip."""
    monkeypatch.chdir(ROOT)
    return {key: (value, origin) for key, value, origin in describe_pair(*find_merged(Path.cwd()), "fiq", "blip")}


def test_each_value_has_the_entry_that_it_is_written_in(lines: dict[str, tuple[str, str]]) -> None:
    for key, found in {
        "seed": ("42", "seed"),
        "datasets.layout": ('"fashioniq"', "datasets.fiq"),
        "models.stage1": ('{"local": "fiq_stage1.pt"}', "models.fiq"),
        "caption.words": ("10", "caption.fiq"),
        "caption.batch_size": ("16", "defaults.caption"),
        "match.window": ("null", "match.fiq"),
        "triplets.sample": ("3000", "triplets.fiq.blip"),
        "train.tau": ("0.03", "train.fiq.blip"),
        "train.learn_tau": ("true", "defaults.train.blip"),
        "train.betas": ("[0.9, 0.999]", "defaults.train.all"),
        "checkpoint.train.schedule": ('{"name": "cosine", "epochs": 20}', "defaults.checkpoint.blip"),
        "checkpoint.train.lr": ("2e-05", "checkpoint.fiq.blip"),
        "validate.capitalise": ("true", "validate.fiq.blip"),
    }.items():
        assert lines[key] == found, key


def test_every_value_of_the_pair_is_there(lines: dict[str, tuple[str, str]]) -> None:
    """Values of other families, and optional keys that the file does not contain, are left out."""
    found = pair_settings(load_params(ROOT / "params.yaml"), "fiq", "blip")
    keys = {".".join(short_key(path, "blip")) for path in found}
    optional = {key for key in keys - lines.keys() if not any(line.startswith(f"{key}.") for line in lines)}
    assert {key.split(".")[0] for key in optional} <= {"datasets"}
    assert lines.keys() >= {f"train.{key}" for key in ("tau", "lr", "eps", "positives", "bank_samples")}
    assert not any("clip" in key for key in lines)


def test_a_family_of_the_pool_reads_its_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = {key: origin for key, _, origin in describe_pair(*find_merged(Path.cwd()), "cirr", "zs_cc")}
    assert found["caption.pool"] == "caption.cirr"
    assert "caption.words" not in found


def test_the_command_prints_a_line_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["settings", "fiq", "clip"])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["train.tau:", "0.02", "#", "train.fiq.clip"] in lines
    assert ["train.precision:", '"float16"', "#", "defaults.train.all"] in lines


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("fqi", "clip"), r"params.yaml: datasets.fqi is not set (data sets there: demo_fiq, "),
        (("fiq", "clp"), r"params.yaml: triplets.fiq.clp is not set (families there: clip, "),
    ],
)
def test_a_pair_that_is_not_known(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], message: str) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["settings", *names])
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_names_the_file_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    monkeypatch.chdir(tmp_path)
    outside = run.invoke(app, ["settings", "fiq", "clip"]).output.splitlines()
    assert outside[0] == "# no params.yaml in reach: the settings that the package ships"
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    inside = run.invoke(app, ["settings", "fiq", "clip"]).output.splitlines()
    assert inside == [f"# {tmp_path / 'params.yaml'}", *outside[1:]]
