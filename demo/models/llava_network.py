"""The small LLaVA's network: a random language model over the vision tower of the small CLIP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from open_clip import CLIP
from torch import Tensor

from demo.settings import CaptionerSettings

HEAD_WIDTH = 32
# Standard deviation of the language model's initial weights. With 0.02, which suits published widths, attention is
# almost uniform at first, and an attribute that few patches show is not learnt for hundreds of steps.
FIRST_WEIGHTS = 0.08
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
# transformers spells it "layrnorm".
NORMS = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
PREFIX = "visual."


def make_model(clip: CLIP, processor: Any, settings: CaptionerSettings) -> Any:
    """Returns a LLaVA with the vision tower of the CLIP and a random language model."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    visual = clip.visual
    width, blocks = visual.conv1.out_channels, visual.transformer.resblocks
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act="quick_gelu",
    )
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // HEAD_WIDTH,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=FIRST_WEIGHTS,
    )
    image_token = tokenizer.convert_tokens_to_ids(processor.image_token)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token)
    )
    model.model.vision_tower.load_state_dict(_named_like(model.model.vision_tower, tower_state(clip.state_dict())))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    return model


def _named_like(tower: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state under the prefix that the installed version of transformers gives its names, if any."""
    prefix = next(iter(tower.state_dict())).split("embeddings.")[0]
    return {prefix + name: tensor for name, tensor in state.items()}


def tower_state(clip_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of `visual.*`, except the output projection, by the names of `CLIPVisionModel`.

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
