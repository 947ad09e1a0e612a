"""Tiny BLIP-2 checkpoints in their published names and containers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers.words import WORDS, write_vocabulary

DIM, IMAGE_WIDTH, WIDTH, PATCH, SIZE, POSITIONS, QUERIES = 24, 176, 128, 8, 24, 40, 4
EMBEDDINGS = len(WORDS) + 1
PREFIX = "blip_model."
TEMP = 0.07
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _layer(name: str, *weight: int) -> Shapes:
    """Returns random weight and bias of a matrix, a kernel or a norm."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def _image_side(layers: int) -> Shapes:
    tower, width = "visual_encoder", IMAGE_WIDTH
    yield f"{tower}.cls_token", (1, 1, width)
    yield f"{tower}.pos_embed", (1, (SIZE // PATCH) ** 2 + 1, width)
    yield from _layer(f"{tower}.patch_embed.proj", width, 3, PATCH, PATCH)
    for block in (f"{tower}.blocks.{i}" for i in range(layers)):
        yield from _layer(f"{block}.norm1", width)
        yield f"{block}.attn.q_bias", (width,)
        yield f"{block}.attn.v_bias", (width,)
        yield f"{block}.attn.qkv.weight", (3 * width, width)
        yield from _layer(f"{block}.attn.proj", width, width)
        yield from _layer(f"{block}.norm2", width)
        yield from _layer(f"{block}.mlp.fc1", 208, width)
        yield from _layer(f"{block}.mlp.fc2", width, 208)
    yield from _layer("ln_vision", width)


def _attention(name: str, read: int) -> Shapes:
    yield from _layer(f"{name}.self.query", WIDTH, WIDTH)
    yield from _layer(f"{name}.self.key", WIDTH, read)
    yield from _layer(f"{name}.self.value", WIDTH, read)
    yield from _layer(f"{name}.output.dense", WIDTH, WIDTH)
    yield from _layer(f"{name}.output.LayerNorm", WIDTH)


def _qformer(name: str, layers: int, every: int) -> Shapes:
    yield f"{name}.embeddings.word_embeddings.weight", (EMBEDDINGS, WIDTH)
    yield f"{name}.embeddings.position_embeddings.weight", (POSITIONS, WIDTH)
    yield from _layer(f"{name}.embeddings.LayerNorm", WIDTH)
    for i in range(layers):
        block = f"{name}.encoder.layer.{i}"
        yield from _attention(f"{block}.attention", WIDTH)
        if i % every == 0:
            yield from _attention(f"{block}.crossattention", IMAGE_WIDTH)
        for kind in ("", "_query"):
            yield from _layer(f"{block}.intermediate{kind}.dense", 144, WIDTH)
            yield from _layer(f"{block}.output{kind}.dense", WIDTH, 144)
            yield from _layer(f"{block}.output{kind}.LayerNorm", WIDTH)


def published_state(stage: int = 1, layers: int = 3, every: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Returns the state dict of a stage's file, without extras.

    No tensor has its initial value 0 or 1, and the second pass is no copy of the first.

    Args:
        stage: 1 or 2.
        layers: number of layers of the Q-Former; the ViT has two.
        every: every how many layers there is a cross-attention.
        seed: seed of the weights.
    """
    shapes = dict(_image_side(2)) | dict(_qformer("Qformer.bert", layers, every))
    shapes |= {"query_tokens": (1, QUERIES, WIDTH), "temp": ()}
    for name in ("vision_proj", "text_proj", "text_proj_q")[: stage + 1]:
        shapes |= dict(_layer(name, DIM, WIDTH))
    if stage == 2:
        shapes |= dict(_qformer("Qformer_query.bert", layers, every))
    generator = torch.Generator().manual_seed(seed)
    return {name: _drawn(name, shape, generator) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if not shape:
        return torch.tensor(TEMP)
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        is_scale = name.endswith("weight")  # a norm; a matrix has two dimensions
        return 0.2 * values + float(is_scale)
    if "embed" in name or "token" in name:
        return values
    return values / values[0].numel() ** 0.5


def extras(stage: int = 1) -> dict[str, Tensor]:
    """Returns tensors by the further names that a published file may contain."""
    shapes: dict[str, tuple[int, ...]] = {"prompt_tokens": (1, QUERIES, WIDTH), **dict(_layer("itm_head", 2, WIDTH))}
    for name in ("Qformer", "Qformer_query")[:stage]:
        shapes[f"{name}.bert.embeddings.position_ids"] = (1, POSITIONS)
        shapes[f"{name}.cls.predictions.bias"] = (EMBEDDINGS,)
        shapes |= dict(_layer(f"{name}.cls.predictions.decoder", EMBEDDINGS, WIDTH))
    return {name: torch.full(shape, 7.0) for name, shape in shapes.items()}


def container(state: dict[str, Tensor], stage: int = 1) -> dict[str, Any]:
    """Returns the content of a published file of the stage."""
    if stage == 1:
        return {"epoch": 3, "Blip2QformerCirAlignPrompt": state}
    return {"epoch": 3, "state_dict": {PREFIX + name: tensor for name, tensor in state.items()}}


def write_checkpoint(path: Path, stage: int = 1, seed: int = 0) -> Path:
    """Writes a tiny network as a published file of the stage, with extras, and its tokenizer's folder beside it."""
    write_vocabulary(path.parent)
    torch.save(container(published_state(stage, seed=seed) | extras(stage), stage), path)
    return path
