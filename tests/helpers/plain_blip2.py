"""BLIP-2's EVA ViT and Q-Former written out in plain tensor operations, from the published names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.plain_blip import State, bert_attention, linear, norm, unit

EVA_HEAD = 88


def image_tokens(state: State, images: Tensor) -> Tensor:
    """The EVA ViT: no bias for keys, no last norm; then `ln_vision`."""
    kernel = state["visual_encoder.patch_embed.proj.weight"]
    patches = F.unfold(images, kernel.shape[-1], stride=kernel.shape[-1]).transpose(1, 2) @ kernel.flatten(1).T
    patches = patches + state["visual_encoder.patch_embed.proj.bias"]
    first = state["visual_encoder.cls_token"].expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + state["visual_encoder.pos_embed"]
    layer = 0
    while (block := f"visual_encoder.blocks.{layer}") + ".norm1.weight" in state:
        x = x + linear(
            state, f"{block}.attn.proj", _eva_attention(state, block, norm(state, f"{block}.norm1", x, 1e-6))
        )
        hidden = F.gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6)))
        x = x + linear(state, f"{block}.mlp.fc2", hidden)
        layer += 1
    return norm(state, "ln_vision", x, 1e-5)


def _eva_attention(state: State, block: str, x: Tensor) -> Tensor:
    q, k, v = (x @ matrix.T for matrix in state[f"{block}.attn.qkv.weight"].chunk(3))
    q, v = q + state[f"{block}.attn.q_bias"], v + state[f"{block}.attn.v_bias"]
    q, k, v = (part.unflatten(-1, (-1, EVA_HEAD)).transpose(1, 2) for part in (q, k, v))
    logits = q @ k.transpose(2, 3) / math.sqrt(EVA_HEAD)
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _feed_forward(state: State, block: str, ending: str, x: Tensor) -> Tensor:
    hidden = F.gelu(linear(state, f"{block}.intermediate{ending}.dense", x))
    mixed = x + linear(state, f"{block}.output{ending}.dense", hidden)
    return norm(state, f"{block}.output{ending}.LayerNorm", mixed, 1e-12)


def _embed(state: State, name: str, queries: Tensor, ids: Tensor) -> Tensor:
    words = state[f"{name}.embeddings.word_embeddings.weight"][ids]
    text = words + state[f"{name}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    return norm(state, f"{name}.embeddings.LayerNorm", torch.cat([queries, text], dim=1), 1e-12)


def fusion(state: State, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """The outputs of the queries: self-attention over queries and text, cross-attention of the queries alone."""
    name, count = "Qformer.bert", state["query_tokens"].shape[1]
    x = _embed(state, name, state["query_tokens"].expand(len(tokens), -1, -1), ids)
    everywhere = torch.cat([mask.new_ones(len(mask), count), mask], dim=1)
    layer = 0
    while (block := f"{name}.encoder.layer.{layer}") + ".output.dense.weight" in state:
        x = bert_attention(state, f"{block}.attention", x, x, everywhere)
        queries, text = x[:, :count], x[:, count:]
        if f"{block}.crossattention.self.query.weight" in state:
            queries = bert_attention(state, f"{block}.crossattention", queries, tokens, None)
        x = torch.cat([_feed_forward(state, block, "_query", queries), _feed_forward(state, block, "", text)], dim=1)
        layer += 1
    return x[:, :count]


def query(state: State, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """The text's first token in the second pass over the fusion without image; all tokens use the text feed-forward."""
    stage_2 = "text_proj_q.weight" in state
    name, projection = ("Qformer_query.bert", "text_proj_q") if stage_2 else ("Qformer.bert", "text_proj")
    fused = fusion(state, ids, mask, tokens)
    x = _embed(state, name, fused, ids)
    everywhere = torch.cat([mask.new_ones(fused.shape[:2]), mask], dim=1)
    layer = 0
    while (block := f"{name}.encoder.layer.{layer}") + ".output.dense.weight" in state:
        x = _feed_forward(state, block, "", bert_attention(state, f"{block}.attention", x, x, everywhere))
        layer += 1
    return unit(linear(state, projection, x[:, fused.shape[1]]))


def target(state: State, tokens: Tensor) -> Tensor:
    """The projected outputs of the queries for the image alone."""
    name = "Qformer.bert"
    x = norm(state, f"{name}.embeddings.LayerNorm", state["query_tokens"].expand(len(tokens), -1, -1), 1e-12)
    layer = 0
    while (block := f"{name}.encoder.layer.{layer}") + ".output.dense.weight" in state:
        x = bert_attention(state, f"{block}.attention", x, x, None)
        if f"{block}.crossattention.self.query.weight" in state:
            x = bert_attention(state, f"{block}.crossattention", x, tokens, None)
        x = _feed_forward(state, block, "_query", x)
        layer += 1
    return unit(linear(state, "vision_proj", x))
