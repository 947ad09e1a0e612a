"""The zero-shot recipes: first stage, bank and second stage from generated triplets, of own images or of a pool."""

import json

import torch

from tests.pipeline.conftest import Project

RECIPES = ("zs", "zs_cc")
FIRST = {f"{stage}@demo_cirr-{family}" for stage in ("checkpoint", "bank") for family in RECIPES}


def choose(project: Project) -> None:
    def change(params: dict) -> None:
        params["run"].update(datasets=["demo_cirr"], models=["clip", *RECIPES], submit=[])

    project.edit("params.yaml", change)


def listing(project: Project, family: str) -> dict:
    return json.loads((project.root / f"data/listing/demo_cirr/{family}.json").read_text())


def test_both_recipes_learn_from_what_they_generate_and_clip_does_not(project: Project) -> None:
    """The stages of clip do not rerun, except the captions, which are made again for all families."""
    choose(project)
    run = project.repro()
    assert run >= FIRST
    assert not run & {f"{stage}@demo_cirr-clip" for stage in ("checkpoint", "bank", "train", "validate")}
    assert listing(project, "clip") == {}
    for family, place in (("zs", "data/raw/demo_cirr"), ("zs_cc", "data/pool/demo_cirr")):
        content = listing(project, family)
        named = {name for reference, target, _ in content["triplets"] for name in (reference, target)}
        assert named == content["images"].keys()
        assert all(path.startswith(place) for path, _ in content["images"].values())
        manifest = json.loads((project.root / f"data/bank/demo_cirr/{family}/manifest.json").read_text())
        assert manifest["images"] == len({digest for _, digest in content["images"].values()})
        metrics = json.loads((project.root / f"metrics/demo_cirr/{family}.json").read_text())
        assert metrics["protocol"]["family"] == family
        weights = torch.load(project.root / f"data/train/demo_cirr/{family}/best.pt", weights_only=True)
        assert all(name.startswith("clip.") for name in weights["state_dict"])
    _other_captions_rerun_the_recipes_alone(project)


def _other_captions_rerun_the_recipes_alone(project: Project) -> None:
    """The first stage and the bank of a supervised family depend on a listing that stays empty."""

    def change(params: dict) -> None:
        params["triplets"]["demo_cirr"]["zs"]["templates"] = [2]
        params["caption"]["demo_cirr"]["prompt"] = "please briefly describe the {noun} in {words} words now"

    project.edit("params.yaml", change)
    run = project.repro("checkpoint@demo_cirr-clip", "bank@demo_cirr-clip", "checkpoint@demo_cirr-zs")
    assert {"caption@demo_cirr", "checkpoint@demo_cirr-zs"} <= run
    assert not run & {"checkpoint@demo_cirr-clip", "bank@demo_cirr-clip"}
