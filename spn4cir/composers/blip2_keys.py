"""Maps the names of BLIP-2's tensors in the published files and in transformers to ours, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from spn4cir.composers.hosted import VIT_PAIRS
from spn4cir.composers.state_dicts import KeyMap
from spn4cir.errors import InputError

_LAYER = (
    *(
        (f"{kind}.self.{part}", f"{kind}.attention.{part}")
        for kind in ("attention", "crossattention")
        for part in ("query", "key", "value")
    ),
    *(
        (name, name)
        for name in (
            *(f"{kind}.output.{part}" for kind in ("attention", "crossattention") for part in ("dense", "LayerNorm")),
            *("intermediate.dense", "output.dense", "output.LayerNorm"),
            *("intermediate_query.dense", "output_query.dense", "output_query.LayerNorm"),
        )
    ),
)


def _qformer_pairs(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{theirs}.bert.embeddings.word_embeddings", f"{ours}.embeddings.word_embeddings"),
        (f"{theirs}.bert.embeddings.position_embeddings", f"{ours}.embeddings.position_embeddings"),
        (f"{theirs}.bert.embeddings.LayerNorm", f"{ours}.encoder.layernorm"),
        *((f"{theirs}.bert.encoder.layer.{{i}}.{a}", f"{ours}.encoder.encoder.layer.{{i}}.{b}") for a, b in _LAYER),
    )


_PAIRS = (
    *VIT_PAIRS,
    ("ln_vision", "vision_model.post_layernorm"),
    *_qformer_pairs("Qformer", "qformer"),
    *((name, name) for name in ("query_tokens", "vision_proj", "text_proj")),
    ("temp", "temperature"),
)
_SECOND_PAIRS = (*_qformer_pairs("Qformer_query", "second.qformer"), ("text_proj_q", "second.text_proj"))
_EXTRAS = (r"prompt_tokens", r"itm_head\.(weight|bias)", r"Qformer\.cls\..+", r".+\.position_ids")
# By stage. `join_biases` joins the query and value biases of EVA's attention before the table is applied.
KEYS = {
    1: KeyMap(_PAIRS, _EXTRAS),
    2: KeyMap((*_PAIRS, *_SECOND_PAIRS), (*_EXTRAS, r"Qformer_query\.cls\..+")),
}
# Only stage-2 files contain the second.
_QFORMERS = ("Qformer", "Qformer_query")
_QKV, _Q, _V = ".attn.qkv.bias", ".attn.q_bias", ".attn.v_bias"
# Prefixes of transformers that differ from ours; the first match applies.
_BASE_PREFIXES = (
    ("qformer.", "qformer.encoder."),
    ("embeddings.", "qformer.embeddings."),
    ("vision_projection.", "vision_proj."),
    ("text_projection.", "text_proj."),
)


def from_base_name(name: str) -> str:
    """Returns our name of a tensor of the base model."""
    for theirs, ours in _BASE_PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def join_biases(state: dict[str, Tensor], place: str) -> None:
    """Joins the query and value biases of each attention in place, with zeros for the keys, which have no bias.

    Raises InputError that lists incomplete pairs of biases, and biases that are already joined.
    """
    if joined := sorted(name for name in state if name.endswith(_QKV)):
        raise InputError(f"{place}: unexpected {joined[:10]}; check the file and the family")
    blocks = {name.removesuffix(end) for name in state for end in (_Q, _V) if name.endswith(end)}
    if missing := sorted({block + end for block in blocks for end in (_Q, _V)} - state.keys()):
        raise InputError(f"{place}: missing {missing[:10]}; check the file and the family")
    for block in blocks:
        q, v = (state.pop(block + end).float() for end in (_Q, _V))
        state[block + _QKV] = torch.cat([q, torch.zeros_like(q), v])


def split_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Splits the biases that `join_biases` joined.

    The bias of the keys is dropped: published files have no name for it, and it does not change the attention, because
    the softmax cancels it.
    """
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_QKV):
            q, _, v = tensor.chunk(3)
            split |= {name.removesuffix(_QKV) + _Q: q, name.removesuffix(_QKV) + _V: v}
        else:
            split[name] = tensor
    return split


def filled_extras(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors that the original's module has in addition to the network's, by its names.

    They are zeros, ones for the scale of a norm, and ascending positions. The decoder of the Q-Former's language head
    is a copy of the word embeddings: LAVIS ties the two, so other values would replace the embeddings on loading.

    Args:
        state: the network's tensors of a stage, by their published names.
    """
    queries, width = state["query_tokens"], state["query_tokens"].shape[-1]
    filled = {"prompt_tokens": torch.zeros(queries.shape), **_linear("itm_head", 2, width)}
    for name in _QFORMERS:
        words = state.get(f"{name}.bert.embeddings.word_embeddings.weight")
        if words is None:
            continue
        positions = len(state[f"{name}.bert.embeddings.position_embeddings.weight"])
        head = f"{name}.cls.predictions"
        filled |= {
            f"{name}.bert.embeddings.position_ids": torch.arange(positions)[None],
            **_linear(f"{head}.transform.dense", width, width),
            f"{head}.transform.LayerNorm.weight": torch.ones(width),
            f"{head}.transform.LayerNorm.bias": torch.zeros(width),
            f"{head}.bias": torch.zeros(len(words)),
            f"{head}.decoder.weight": words.detach().cpu().clone(),
            f"{head}.decoder.bias": torch.zeros(len(words)),
        }
    return filled


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.zeros(outputs, inputs), f"{name}.bias": torch.zeros(outputs)}
