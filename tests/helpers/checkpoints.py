"""Tiny CLIP checkpoints in OpenAI's names, in the published containers of both stages."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

Tower = Literal["vit", "resnet"]

VISION = {
    "vit": CLIPVisionCfg(layers=1, width=64, head_width=64, patch_size=8, image_size=32),
    "resnet": CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, head_width=64, image_size=64),
}


def tiny_state(tower: Tower = "vit", seed: int = 0) -> dict[str, Tensor]:
    """Returns the state dict of an untrained CLIP: 32-d, quick GELU, one layer per tower, the whole vocabulary."""
    return {name: tensor.clone() for name, tensor in _tiny_state(tower, seed).items()}


@cache
def _tiny_state(tower: Tower, seed: int) -> dict[str, Tensor]:
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CLIP(32, VISION[tower], text, quick_gelu=True)
    return dict(network.state_dict())


def container(state: dict[str, Tensor], stage: int = 1) -> dict[str, Any]:
    """Returns the content of a published file of the stage."""
    if stage == 1:
        return {"epoch": 3, "CLIP": state}
    return {"epoch": 3, "state_dict": {f"clip.{name}": tensor for name, tensor in state.items()}}


def write_checkpoint(path: Path, stage: int = 1, tower: Tower = "vit", seed: int = 0) -> Path:
    """Writes a tiny network as a published file of the stage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(container(tiny_state(tower, seed), stage), path)
    return path
