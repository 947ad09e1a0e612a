"""Tiny TG-CIR checkpoints in their published names and container."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor

from spn4cir.composers.protocol import Options
from spn4cir.composers.tgcir import TgcirComposer

DIM, IMAGE_WIDTH, TEXT_WIDTH, HEAD, SIZE = 24, 64, 96, 32, 24
# Sizes of the base model, whose head width is that of the published networks.
BASE_TEXT_WIDTH = 128
VOCABULARY = 49408
OPTIONS = Options(vision_head_width=HEAD, text_head_width=HEAD)
TWIN = "backbone.image_backbone."


@cache
def _clip(text_width: int) -> dict[str, Tensor]:
    """Returns a CLIP of two layers per tower, two and three heads, different widths, and no tensor of only 0 or 1."""
    vision = CLIPVisionCfg(layers=2, width=IMAGE_WIDTH, head_width=HEAD, patch_size=8, image_size=SIZE)
    text = CLIPTextCfg(context_length=77, vocab_size=VOCABULARY, width=text_width, heads=text_width // HEAD, layers=2)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = CLIP(DIM, vision, text, quick_gelu=True)
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn(parameter.shape)
            elif "embedding" in name:
                parameter.data *= 20
    return dict(network.state_dict())


def clip_state(text_width: int = TEXT_WIDTH) -> dict[str, Tensor]:
    """Returns the CLIP of the checkpoints, in OpenAI's names."""
    return {name: tensor.clone() for name, tensor in _clip(text_width).items()}


def _shapes(stage: int, masks: int, learners: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.fc.weight": (DIM, IMAGE_WIDTH),
        "backbone.fc.bias": (DIM,),
        "backbone.text_fc.weight": (DIM, TEXT_WIDTH),
        "backbone.text_fc.bias": (DIM,),
        **_gate("s_remain_map"),
    }
    for ending in ("", "_text")[:stage]:
        shapes[f"backbone.masks{ending}.weight"] = (masks, DIM)
        for i in range(learners):
            shapes[f"backbone.tokenlearn{ending}.tokenizers.{i}.conv.0.weight"] = (1, DIM, 1)
            shapes[f"backbone.tokenlearn{ending}.tokenizers.{i}.conv.0.bias"] = (1,)
    return shapes


def _gate(name: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.0.weight": (DIM, 2 * DIM),
        f"{name}.0.bias": (DIM,),
        f"{name}.2.weight": (1, DIM),
        f"{name}.2.bias": (1,),
    }


def published_state(stage: int, masks: int = 4, learners: int = 8, words: int = VOCABULARY) -> dict[str, Tensor]:
    """Returns the state dict of a stage's file, without extras. Every tensor is random; masks have both signs.

    With fewer `words` than the vocabulary the network reads no text, but loads much faster.
    """
    generator = torch.Generator().manual_seed(stage)
    clip = clip_state()
    clip["token_embedding.weight"] = clip["token_embedding.weight"][:words].clone()
    state = {f"backbone.clip.{name}": tensor for name, tensor in clip.items()}
    state |= {
        TWIN + name.removeprefix("visual."): tensor for name, tensor in clip.items() if name.startswith("visual.")
    }
    drawn = {
        name: 0.5 * torch.randn(shape, generator=generator) for name, shape in _shapes(stage, masks, learners).items()
    }
    return state | drawn


def extras() -> dict[str, Tensor]:
    """Returns tensors by the further names that a published file may contain."""
    shapes = {"local_weight": (12,), "loss_T": (1,), **_gate("t_remain_map"), **_gate("t_replace_map")}
    return {name: torch.full(shape, 7.0) for name, shape in shapes.items()}


def container(state: dict[str, Tensor]) -> dict[str, Any]:
    """Returns the content of a published file of either stage."""
    return {"epoch": 3, "state_dict": state}


def tiny_tgcir(state: dict[str, Tensor], stage: int, place: str = "a.pt") -> TgcirComposer:
    """Returns the network of a state dict, which is not changed."""
    return TgcirComposer.from_state(dict(state), stage, place, OPTIONS)


def write_base(folder: Path) -> Path:
    """Writes the CLIP of the checkpoints, with another text width, as a folder that open_clip reads."""
    config = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": IMAGE_WIDTH, "head_width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": VOCABULARY, "width": BASE_TEXT_WIDTH, "heads": 2, "layers": 2},
        "quick_gelu": True,
    }
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(clip_state(BASE_TEXT_WIDTH), folder / "open_clip_model.safetensors")
    return folder
