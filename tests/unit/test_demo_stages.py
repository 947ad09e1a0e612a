"""The demo's stages declare what they read."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "demo" / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "demo" / "params.yaml")
# The matrix of the stages that make a data set of fetched images.
FETCHED = {"dataset": "${fetched}"}


def paths(stage, key):
    return {path for entry in stage.get(key, []) for path in ([entry] if isinstance(entry, str) else entry)}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_params_exist_and_outs_are_in_the_command(name):
    stage = STAGES[name]
    for entry in stage.get("params", []):
        for key in entry["demo/params.yaml"]:
            assert key.split(".")[0] in PARAMS
    for out in paths(stage, "outs") | paths(stage, "metrics"):
        assert out in stage["cmd"]


def test_metrics_are_kept_in_git():
    for stage in STAGES.values():
        for entry in stage.get("metrics", []):
            assert all(options == {"cache": False} for options in entry.values())


def test_every_out_leads_to_a_root_stage():
    root = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    needed = {path for stage in root.values() for path in paths(stage, "deps")}
    needed = {path.replace("${item.dataset}", name) for path in needed for name in ("demo_fiq", "demo_cirr")}
    needed |= {path for stage in STAGES.values() for path in paths(stage, "deps")}
    assert PARAMS["drawn"] == ["demo_fiq", "demo_cirr"]
    assert all(any(dep.startswith(f"{out}/") for dep in needed) for out in paths(STAGES["code"], "outs"))
    for stage in (content for content in STAGES.values() if content.get("matrix") != FETCHED):
        for out in paths(stage, "outs") - paths(STAGES["code"], "outs"):
            assert {out.replace("${item.dataset}", name) for name in ("demo_fiq", "demo_cirr")} <= needed


def test_the_default_run_fetches_nothing():
    """So `make demo` needs neither npm nor a network, and no stage waits for a data set that is not there."""
    run = YAML(typ="safe").load(ROOT / "params.yaml")["run"]
    assert PARAMS["fetched"] == []
    assert "demo_emoji" not in run["datasets"]
    fetching = {name for name, stage in STAGES.items() if stage.get("matrix") == FETCHED}
    assert fetching == {"emoji", "emoji_models"}
    for name in STAGES.keys() - fetching:
        assert not any("demo_emoji" in path for path in paths(STAGES[name], "deps") | paths(STAGES[name], "outs"))
