"""CLIP's towers written out in plain tensor operations, from OpenAI's names: the reference of other networks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """LayerNorm, eps 1e-5."""
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(state: dict[str, Tensor], name: str, x: Tensor, head: int, causal: bool) -> Tensor:
    """Softmax attention; `head` is the width of a head."""
    batch, length, width = x.shape
    packed = x @ state[f"{name}.in_proj_weight"].T + state[f"{name}.in_proj_bias"]
    q, k, v = (part.reshape(batch, length, width // head, head).transpose(1, 2) for part in packed.split(width, dim=2))
    logits = q @ k.transpose(2, 3) / math.sqrt(head)
    if causal:
        logits = logits + torch.full((length, length), -torch.inf).triu(1)
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
    return mixed @ state[f"{name}.out_proj.weight"].T + state[f"{name}.out_proj.bias"]


def transformer(state: dict[str, Tensor], prefix: str, x: Tensor, head: int, causal: bool) -> Tensor:
    """Pre-norm blocks with quick GELU, as many as the state has."""
    layer = 0
    while f"{prefix}.resblocks.{layer}.ln_1.weight" in state:
        name = f"{prefix}.resblocks.{layer}"
        x = x + attention(state, f"{name}.attn", norm(state, f"{name}.ln_1", x), head, causal)
        hidden = norm(state, f"{name}.ln_2", x) @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        x = x + hidden @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
        layer += 1
    return x


def image_sequence(state: dict[str, Tensor], images: Tensor, head: int) -> Tensor:
    """The ViT's tokens, class token first, before its last LayerNorm."""
    patch = state["visual.conv1.weight"].shape[-1]
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2) @ state["visual.conv1.weight"].flatten(1).T
    first = state["visual.class_embedding"].expand(len(images), 1, -1)
    x = norm(state, "visual.ln_pre", torch.cat([first, patches], dim=1) + state["visual.positional_embedding"])
    return transformer(state, "visual.transformer", x, head, causal=False)


def image_feature(state: dict[str, Tensor], sequence: Tensor) -> Tensor:
    """The class token after norm and projection."""
    return norm(state, "visual.ln_post", sequence[:, 0]) @ state["visual.proj"]


def text_sequence(state: dict[str, Tensor], tokens: Tensor, head: int) -> Tensor:
    """Every position after the last LayerNorm, padding included."""
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    return norm(state, "ln_final", transformer(state, "transformer", x, head, causal=True))


def text_feature(state: dict[str, Tensor], tokens: Tensor, sequence: Tensor) -> Tensor:
    """The end token, which has the largest id, projected."""
    return sequence[torch.arange(len(tokens)), tokens.argmax(dim=1)] @ state["text_projection"]
