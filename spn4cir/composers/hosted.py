"""Networks of transformers: tables of names, loading of a file's tensors, and base models."""

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
from spn4cir.hub.variables import check_hub_variables

_BLOCK = (
    ("norm1", "layer_norm1"),
    ("attn.qkv", "self_attn.qkv"),
    ("attn.proj", "self_attn.projection"),
    ("norm2", "layer_norm2"),
    ("mlp.fc1", "mlp.fc1"),
    ("mlp.fc2", "mlp.fc2"),
)
# LAVIS's ViT without its final norm; the names are the same in BLIP and BLIP-2.
VIT_PAIRS = (
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj", "vision_model.embeddings.patch_embedding"),
    *((f"visual_encoder.blocks.{{i}}.{a}", f"vision_model.encoder.layers.{{i}}.{b}") for a, b in _BLOCK),
)


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Assigns tensors, converted to float32, to the parameters of a network that was built on the meta device.

    This needs no initialisation and no second copy of the weights. Position buffers, which no file contains, are
    created.
    """
    for name in state:
        state[name] = state[name].float()
    network.load_state_dict(state, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name == "position_ids" and buffer.is_meta:
                setattr(module, name, torch.arange(buffer.shape[-1]).expand(buffer.shape))


def base_network(kind: str, model_type: str, model: str, revision: str | None) -> Any:
    """Loads a pretrained model of transformers, in float32 on the CPU.

    Args:
        kind: name of its class.
        model_type: expected `model_type` of its configuration.
        model: a folder, or a hub id.
        revision: branch, tag or commit of the hub repository; None uses the main branch.

    Raises:
        InputError: the model cannot be loaded, is of another kind or lacks weights.
    """
    if not Path(model).is_dir():
        check_hub_variables()
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
    except Exception as error:  # the libraries raise many kinds of errors for a damaged model
        raise InputError(
            f"{place}: cannot be loaded ({first_line(error)}); check the name and the network, or name the folder of a "
            f"{kind}"
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{place}: lacks {len(missing)} weights ({', '.join(missing[:3])}, ...); name a {kind}")
    return network


def base_options(configs: Sequence[Any], model: str, options: Options) -> Options:
    """Returns the options of a base model: its own head widths, and the tokenizer in its folder unless one is given.

    Args:
        configs: configurations of its image tower and of its text tower.
        model: a folder, or a hub id.
        options: the options that were given.

    Raises:
        InputError: the activation of the model is not GELU, which BLIP uses.
    """
    if unlike := [config.hidden_act for config in configs if config.hidden_act != "gelu"]:
        raise InputError(f"base model {model}: its activation is {unlike[0]}, BLIP's is gelu; name another model")
    vision, text = (config.hidden_size // config.num_attention_heads for config in configs)
    if options.tokenizer is None and options.vocabulary is None and holds_vocabulary(Path(model)):
        options = replace(options, tokenizer=model)
    return replace(options, vision_head_width=vision, text_head_width=text)
