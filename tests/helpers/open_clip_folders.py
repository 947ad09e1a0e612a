"""CLIP networks in folders of open_clip's form: `open_clip_config.json` and `open_clip_model.safetensors`."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers.checkpoints import container

HEAD = 64


def wide_state(vision_layers: int = 2, text_layers: int = 3) -> dict[str, Tensor]:
    """A CLIP with two heads a tower, so that a wrong number of heads shows; vision and text widths differ."""
    vision = open_clip.model.CLIPVisionCfg(
        layers=vision_layers, width=128, head_width=HEAD, patch_size=8, image_size=24
    )
    text = open_clip.model.CLIPTextCfg(context_length=77, vocab_size=49408, width=192, heads=3, layers=text_layers)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = open_clip.model.CLIP(48, vision, text, quick_gelu=True)
        for name, parameter in network.named_parameters():
            # Fresh networks have zeros and ones where a mistake would not show.
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn(parameter.shape)
            elif "embedding" in name:
                parameter.data *= 20
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def base_config() -> dict[str, Any]:
    """The architecture of `wide_state`, with GELU, as open_clip's own files describe one."""
    return {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 24, "layers": 2, "width": 128, "head_width": HEAD, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 3},
    }


def write_base(
    folder: Path,
    state: dict[str, Tensor],
    quick_gelu: bool = True,
    preprocess: dict[str, Any] | None = None,
    **tower: dict[str, Any],
) -> Path:
    """A folder as open_clip's `local-dir:` reads it; `vision_cfg` and `text_cfg` may be added to."""
    config = base_config() | {"quick_gelu": quick_gelu}
    for name, more in tower.items():
        config[name] |= more
    folder.mkdir()
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in open_clip's form with drawn weights."""
    return write_base(tmp_path_factory.mktemp("base") / "clip", wide_state())


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file with the weights of `clip_folder`."""
    path = tmp_path_factory.mktemp("trained") / "clip.pt"
    torch.save(container(wide_state()), path)
    return path
