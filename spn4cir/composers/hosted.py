"""Networks that transformers hosts: their sizes, a file's tensors put into them, and base models in its form."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spn4cir.composers.bert_tokenizer import holds_vocabulary
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError, first_line

_BLOCK = (
    ("norm1", "layer_norm1"),
    ("attn.qkv", "self_attn.qkv"),
    ("attn.proj", "self_attn.projection"),
    ("norm2", "layer_norm2"),
    ("mlp.fc1", "mlp.fc1"),
    ("mlp.fc2", "mlp.fc2"),
)
# LAVIS's ViT, BLIP's as BLIP-2's, but for the norm behind it.
VIT_PAIRS = (
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj", "vision_model.embeddings.patch_embedding"),
    *((f"visual_encoder.blocks.{{i}}.{a}", f"vision_model.encoder.layers.{{i}}.{b}") for a, b in _BLOCK),
)


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Makes the tensors, in float32, the parameters of a network that was built on the meta device.

    Nothing is initialised only to be replaced, and no second copy is held. Buffers that count positions, which no
    file holds, are counted anew.
    """
    for name in state:
        state[name] = state[name].float()
    network.load_state_dict(state, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name == "position_ids" and buffer.is_meta:
                setattr(module, name, torch.arange(buffer.shape[-1]).expand(buffer.shape))


def base_network(kind: str, model_type: str, model: str, revision: str | None) -> Any:
    """A pretrained model of transformers, in float32, on the CPU.

    Args:
        kind: its class.
        model_type: what its configuration must say.
        model: a folder, or a hub id.
        revision: of the hub's repository.

    Raises:
        InputError: it cannot be had, is of another kind or lacks weights.
    """
    import transformers

    place = f"base model {model}" + (f" (revision {revision})" if revision else "")
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = {"revision": revision} if revision else {}
    try:
        config = transformers.AutoConfig.from_pretrained(model, **source)
        if config.model_type != model_type:
            raise InputError(f"{place}: is a {config.model_type} model, expected {model_type}; name a {kind}")
        network, report = getattr(transformers, kind).from_pretrained(
            model, config=config, dtype=torch.float32, output_loading_info=True, **source
        )
    except InputError:
        raise
    except Exception as error:  # a damaged model makes the libraries raise nearly anything
        raise InputError(
            f"{place}: cannot be loaded ({first_line(error)}); check the name and the network, or name the folder of a "
            f"{kind}"
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{place}: lacks {len(missing)} weights ({', '.join(missing[:3])}, ...); name a {kind}")
    return network


def base_options(configs: Sequence[Any], model: str, options: Options) -> Options:
    """The options of a base model: its own head widths, and the tokenizer of its folder unless one is named.

    Args:
        configs: of its image tower and of its text tower.
        model: a folder, or a hub id.
        options: what was asked for.

    Raises:
        InputError: its activation is not the published one.
    """
    if unlike := [config.hidden_act for config in configs if config.hidden_act != "gelu"]:
        raise InputError(f"base model {model}: its activation is {unlike[0]}, BLIP's is gelu; name another model")
    vision, text = (config.hidden_size // config.num_attention_heads for config in configs)
    if options.tokenizer is None and options.vocabulary is None and holds_vocabulary(Path(model)):
        options = replace(options, tokenizer=model)
    return replace(options, vision_head_width=vision, text_head_width=text)
