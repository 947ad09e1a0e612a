"""BLIP's ViT and text encoder written out in plain tensor operations, from the published names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HEAD = 64
State = dict[str, Tensor]


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of heads of width 64; `mask` (batch, keys) is 0 for masked keys."""
    q, k, v = (x.unflatten(-1, (-1, HEAD)).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(2, 3) / math.sqrt(HEAD)
    if mask is not None:
        logits = logits.masked_fill(mask[:, None, None] == 0, -torch.inf)
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def image_tokens(state: State, images: Tensor) -> Tensor:
    """The ViT: patches, class token, positions, pre-norm blocks with one matrix for q, k and v, the last norm."""
    kernel = state["visual_encoder.patch_embed.proj.weight"]
    patches = F.unfold(images, kernel.shape[-1], stride=kernel.shape[-1]).transpose(1, 2) @ kernel.flatten(1).T
    patches = patches + state["visual_encoder.patch_embed.proj.bias"]
    first = state["visual_encoder.cls_token"].expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + state["visual_encoder.pos_embed"]
    layer = 0
    while (block := f"visual_encoder.blocks.{layer}") + ".norm1.weight" in state:
        packed = linear(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", x, 1e-6))
        x = x + linear(state, f"{block}.attn.proj", attend(*packed.chunk(3, dim=-1)))
        hidden = F.gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6)))
        x = x + linear(state, f"{block}.mlp.fc2", hidden)
        layer += 1
    return norm(state, "visual_encoder.norm", x, 1e-6)


def bert_attention(state: State, name: str, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of `x` to `source`, its output projection, the sum and its norm."""
    q = linear(state, f"{name}.self.query", x)
    k, v = (linear(state, f"{name}.self.{part}", source) for part in ("key", "value"))
    mixed = linear(state, f"{name}.output.dense", attend(q, k, v, mask))
    return norm(state, f"{name}.output.LayerNorm", x + mixed, 1e-12)


def text_outputs(state: State, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """The text encoder: post-norm blocks of self-attention, cross-attention to the image's tokens and feed-forward."""
    words = state["text_encoder.embeddings.word_embeddings.weight"][ids]
    positions = state["text_encoder.embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(state, "text_encoder.embeddings.LayerNorm", words + positions, 1e-12)
    layer = 0
    while (block := f"text_encoder.encoder.layer.{layer}") + ".output.dense.weight" in state:
        x = bert_attention(state, f"{block}.attention", x, x, mask)
        x = bert_attention(state, f"{block}.crossattention", x, tokens, None)
        hidden = F.gelu(linear(state, f"{block}.intermediate.dense", x))
        x = norm(state, f"{block}.output.LayerNorm", x + linear(state, f"{block}.output.dense", hidden), 1e-12)
        layer += 1
    return x


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def target(state: State, images: Tensor) -> Tensor:
    return unit(linear(state, "vision_proj", image_tokens(state, images)[:, 0]))


def query(state: State, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    return unit(linear(state, "text_proj", text_outputs(state, ids, mask, tokens)[:, 0]))
