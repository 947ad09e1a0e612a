"""The demo's stages declare what they read."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "demo" / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "demo" / "params.yaml")


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
    for stage in (content for name, content in STAGES.items() if name != "code"):
        for out in paths(stage, "outs"):
            assert {out.replace("${item.dataset}", name) for name in ("demo_fiq", "demo_cirr")} <= needed
