"""The vision tower of an OpenAI CLIP in transformers' names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

EMBEDDINGS = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
}
LAYER_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# "layrnorm" is how transformers spells it.
NORMS = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
PREFIX = "visual."


def tower_state(clip_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `visual.*`, its output projection left out, named as `CLIPVisionModel` names them.

    Raises KeyError for a tensor that no vision transformer of CLIP has.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in clip_state.items():
        if name.startswith(PREFIX) and name != f"{PREFIX}proj":
            state.update(_renamed(name.removeprefix(PREFIX), tensor))
    return state


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in EMBEDDINGS:
        return {EMBEDDINGS[name]: tensor}
    if found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name):
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"encoder.layers.{found[1]}.self_attn.{part}_proj.{found[2]}": value for part, value in parts}
    if found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name):
        return {f"encoder.layers.{found[1]}.{LAYER_PARTS[found[2]]}.{found[3]}": tensor}
    norm, kind = name.split(".")
    return {f"{NORMS[norm]}.{kind}": tensor}
