"""Inspect: sizes read off a file, and the pipelines that it fits."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from spn4cir.checkpoints import published as checkpoints
from spn4cir.checkpoints.describe import Description, describe
from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers import composer_class
from spn4cir.composers.protocol import Sizes, Tower
from spn4cir.config.params import OpenClipModel, Params
from tests.helpers import blip, blip2, tgcir
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.params import published_params
from tests.helpers.published import FAMILIES, OPTIONS, options, write_published
from tests.helpers.words import WORDS

CLIP_TEXT = Tower("transformer", 64, 1, heads=1)
SIZES = {
    "clip": Sizes(32, 8, Tower("ViT", 64, 1, heads=1), CLIP_TEXT, 77, 49408, (32,)),
    "tgcir": Sizes(24, 8, Tower("ViT", 64, 2, heads=2), Tower("transformer", 96, 2, heads=3), 77, 49408, (24,)),
    "blip": Sizes(24, 8, Tower("ViT", 128, 2, heads=2), Tower("BERT", 192, 2, heads=3), 16, len(WORDS) + 2, (24,)),
    "blip2": Sizes(
        24, 8, Tower("EVA ViT", 176, 2, heads=2), Tower("Q-Former", 128, 3, heads=2), 40, len(WORDS) + 1, (4, 24)
    ),
}
CONTAINERS = {
    ("clip", 1): ("CLIP", ""),
    ("clip", 2): ("state_dict", "clip."),
    ("tgcir", 1): ("state_dict", ""),
    ("tgcir", 2): ("state_dict", ""),
    ("blip", 1): ("BLIP_Retrieval", ""),
    ("blip", 2): ("state_dict", "blip."),
    ("blip2", 1): ("Blip2QformerCirAlignPrompt", ""),
    ("blip2", 2): ("state_dict", "blip_model."),
}
ROWS = {
    "clip": ("fiq-clip", "cirr-clip"),
    "zs": ("fiq-zs", "fiq-zs_cc", "cirr-zs", "cirr-zs_cc"),
    "tgcir": ("fiq-tgcir", "cirr-tgcir"),
    "blip": ("fiq-blip", "cirr-blip"),
    "blip2": ("fiq-blip2", "cirr-blip2"),
}


@pytest.fixture(scope="module")
def params() -> Params:
    return published_params()


@pytest.mark.parametrize(("family", "stage"), list(CONTAINERS))
def test_sizes_are_read_off_a_file(tmp_path: Path, params: Params, family: str, stage: int) -> None:
    """Heads too, by the widths that were named; no tokenizer is asked for."""
    found = describe(write_published(tmp_path / "a.pt", family, stage), params, None, OPTIONS.get(family))
    assert (found.family, found.stage, found.epoch) == (family, stage, 3)
    assert found.container == CONTAINERS[family, stage]
    assert found.sizes == SIZES[family]
    assert found.sizes is not None
    heads = [(sizes.image.heads, sizes.text.heads) for sizes in (found.sizes, SIZES[family])]
    assert heads[0] == heads[1]
    assert found.vocabulary is None


def test_a_resnet_has_layers_by_stage_and_no_patches(tmp_path: Path, params: Params) -> None:
    found = describe(write_checkpoint(tmp_path / "a.pt", 2, "resnet"), params)
    assert found.sizes == Sizes(64, None, Tower("ResNet", 8, (1, 1, 1, 1), heads=4), CLIP_TEXT, 77, 49408, (32,))
    assert found.sizes.image.heads == 4
    assert (
        dict(found.lines())["image tower"] == "ResNet, width 8, layers 1+1+1+1, heads 4 (assumed: no file contains it)"
    )


def elements(state: dict[str, torch.Tensor], *begins: str) -> int:
    return sum(tensor.numel() for name, tensor in state.items() if name.startswith(begins))


def test_parameters_are_counted_by_tower(tmp_path: Path, params: Params) -> None:
    """Each tensor once, copies of one tensor under two names too."""
    state = blip.published_state(2)
    found = describe(write_published(tmp_path / "a.pt", "blip", 2), params).parameters
    positions = prod(state["text_encoder.embeddings.position_ids"].shape)
    assert found == {
        "image": elements(state, "visual_encoder."),
        "text": elements(state, "text_encoder.") - positions,
        "heads": elements(state, "vision_proj.", "text_proj."),
    }
    state = tgcir.published_state(1)
    found = describe(write_published(tmp_path / "b.pt", "tgcir"), params, None, tgcir.OPTIONS).parameters
    assert found["image"] == elements(state, "backbone.clip.visual.") == elements(state, tgcir.TWIN)
    assert sum(found.values()) == elements(state, "") - found["image"]
    assert set(describe(write_published(tmp_path / "c.pt", "blip2", 2), params).parameters) == {
        *("image", "text", "second pass", "heads")
    }


def test_our_files_carry_their_vocabulary(tmp_path: Path, params: Params) -> None:
    file = write_published(tmp_path / "a.pt", "blip")
    save_composer(load_composer(file, "blip", options("blip", tmp_path)), tmp_path / "ours.pt", 2, epoch=7)
    found = describe(tmp_path / "ours.pt", params)
    assert (found.vocabulary, found.epoch, found.stage) == (len(WORDS), 7, 2)
    assert dict(found.lines())["vocabulary"] == f"{len(WORDS)} words"


@pytest.mark.parametrize("recipe", list(ROWS))
def test_a_network_of_the_published_sizes_fits_the_published_rows(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """By the sizes alone; the drawn data sets, whose models are made, may fit."""
    cls = composer_class(recipe)
    monkeypatch.setattr(composer_class(cls.family), "sizes", lambda _: cls.base_sizes(cls.backbone))
    found = describe(write_published(tmp_path / "a.pt", cls.family), params, None, OPTIONS.get(cls.family))
    assert found.fits == dict.fromkeys(ROWS[recipe], cls.backbone)
    recipes = ("clip", "zs", "zs_cc") if cls.family == "clip" else (recipe,)
    drawn = {
        "demo_fiq": recipes,
        "demo_cirr": recipes,
        "demo_emoji": [name for name in recipes if name in ("clip", "zs")],
    }
    assert found.may_fit == tuple(f"{dataset}-{name}" for dataset, names in drawn.items() for name in names)
    assert dict(found.lines())["fits"] == f"{', '.join(ROWS[recipe])} ({cls.backbone})"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_other_sizes_fits_no_published_row(tmp_path: Path, params: Params, family: str) -> None:
    found = describe(write_published(tmp_path / "a.pt", family), params, family, OPTIONS.get(family))
    assert not found.fits
    assert dict(found.lines())["fits"] == "no network that params.yaml names"


def test_the_published_networks_have_the_sizes_of_the_paper() -> None:
    """Image size, patch, widths, layers, heads and targets of the four papers' backbones."""
    found = {name: composer_class(name).base_sizes(composer_class(name).backbone) for name in (*ROWS, "zs_cc")}
    assert found["clip"] == Sizes(
        288, None, Tower("ResNet", 80, (4, 6, 10, 6), 40), Tower("transformer", 640, 12, 10), 77, 49408, (640,)
    )
    assert found["zs"] == found["zs_cc"]
    assert found["zs"] == Sizes(
        224, 14, Tower("ViT", 1024, 24, 16), Tower("transformer", 768, 12, 12), 77, 49408, (768,)
    )
    heads = {name: (sizes.image.heads, sizes.text.heads) for name, sizes in found.items() if sizes}
    assert heads["clip"] == (40, 10)
    assert heads["tgcir"] == (12, 8)
    assert heads["zs"] == (16, 12)
    assert heads["blip"] == (12, 12)
    assert heads["blip2"] == (1408 // 88, 12)


def test_a_row_over_a_model_that_open_clip_names_has_that_models_sizes(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the family's published network is."""
    models = params.models["cirr"]
    stage1 = models.stage1 | {"clip": OpenClipModel(open_clip="ViT-B-32", tag="openai")}
    models = models.model_copy(update={"stage1": stage1})
    changed = params.model_copy(update={"models": params.models | {"cirr": models}})
    cls = composer_class("clip")
    monkeypatch.setattr(cls, "sizes", lambda _: cls.base_sizes("ViT-B-32"))
    assert describe(write_published(tmp_path / "a.pt", "clip"), changed).fits == {"cirr-clip": "ViT-B-32"}


@pytest.mark.parametrize("name", ["no-such-model", "coca_ViT-B-32-none", "roberta-ViT-B-32", "convnext_base"])
def test_names_without_sizes_of_openais_kind_tell_nothing(name: str) -> None:
    assert composer_class("clip").base_sizes(name) is None
    assert composer_class("blip").base_sizes(name) is None


def test_a_file_is_read_once(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], checkpoints.read_plain
    monkeypatch.setattr(checkpoints, "read_plain", lambda path: read.append(path) or original(path))
    describe(write_published(tmp_path / "a.pt", "clip"), params)
    assert read == [tmp_path / "a.pt"]


def test_a_description_is_plain_values(tmp_path: Path, params: Params) -> None:
    found = describe(write_published(tmp_path / "a.pt", "blip2"), params)
    values = json.loads(json.dumps(found.as_dict()))
    assert values["sizes"]["embedding"] == [4, 24]
    assert values["sizes"]["image"] == {"kind": "EVA ViT", "width": 176, "layers": 2, "heads": 2}
    assert values["parameters"] == found.parameters
    assert blip2.QUERIES == 4


def test_a_family_that_tells_no_sizes_is_described_by_the_rest(tmp_path: Path, params: Params) -> None:
    found = describe(write_published(tmp_path / "a.pt", "clip"), params)
    bare = replace(found, sizes=None, epoch=None, may_fit=())
    assert isinstance(bare, Description)
    labels = [label for label, _ in bare.lines()]
    assert labels == ["family", "stage", "container", "epoch", "parameters", "vocabulary", "fits"]
    assert dict(bare.lines())["epoch"] == "unknown"
