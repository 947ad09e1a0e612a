"""Tiny BLIP checkpoints in their published names and containers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BlipConfig, BlipForImageTextRetrieval

from tests.helpers.words import WORDS, write_vocabulary

DIM, IMAGE_WIDTH, TEXT_WIDTH, PATCH, SIZE, POSITIONS = 24, 128, 192, 8, 24, 16
ADDED = 2
PREFIX = "blip."
TAU, TEMP = 0.03, 0.07


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _image_side(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    tower, width = "visual_encoder", IMAGE_WIDTH
    yield f"{tower}.cls_token", (1, 1, width)
    yield f"{tower}.pos_embed", (1, (SIZE // PATCH) ** 2 + 1, width)
    yield f"{tower}.patch_embed.proj.weight", (width, 3, PATCH, PATCH)
    yield f"{tower}.patch_embed.proj.bias", (width,)
    for block in (f"{tower}.blocks.{i}" for i in range(layers)):
        yield from _norm(f"{block}.norm1", width)
        yield from _linear(f"{block}.attn.qkv", 3 * width, width)
        yield from _linear(f"{block}.attn.proj", width, width)
        yield from _norm(f"{block}.norm2", width)
        yield from _linear(f"{block}.mlp.fc1", 160, width)
        yield from _linear(f"{block}.mlp.fc2", width, 160)
    yield from _norm(f"{tower}.norm", width)


def _text_side(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    tower, width = "text_encoder", TEXT_WIDTH
    yield f"{tower}.embeddings.word_embeddings.weight", (len(WORDS) + ADDED, width)
    yield f"{tower}.embeddings.position_embeddings.weight", (POSITIONS, width)
    yield from _norm(f"{tower}.embeddings.LayerNorm", width)
    for block in (f"{tower}.encoder.layer.{i}" for i in range(layers)):
        for kind, read in (("attention", width), ("crossattention", IMAGE_WIDTH)):
            yield from _linear(f"{block}.{kind}.self.query", width, width)
            yield from _linear(f"{block}.{kind}.self.key", width, read)
            yield from _linear(f"{block}.{kind}.self.value", width, read)
            yield from _linear(f"{block}.{kind}.output.dense", width, width)
            yield from _norm(f"{block}.{kind}.output.LayerNorm", width)
        yield from _linear(f"{block}.intermediate.dense", 224, width)
        yield from _linear(f"{block}.output.dense", width, 224)
        yield from _norm(f"{block}.output.LayerNorm", width)


def published_state(stage: int = 1, image_layers: int = 2, text_layers: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Returns the state dict of a stage's file, with extras and temperature. No tensor has its initial value 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    shapes = dict(_image_side(image_layers)) | dict(_text_side(text_layers))
    shapes |= dict(_linear("vision_proj", DIM, IMAGE_WIDTH)) | dict(_linear("text_proj", DIM, TEXT_WIDTH))
    state = {name: _drawn(name, shape, generator) for name, shape in shapes.items()}
    state["temp"] = torch.tensor(TEMP)
    state["text_encoder.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    return state | ({"tau": torch.tensor(TAU)} if stage == 2 else {})


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return 0.2 * values + float("norm" in name.lower() and name.endswith("weight"))
    if "embed" in name or "token" in name:
        return values
    return values / values[0].numel() ** 0.5


def container(state: dict[str, Tensor], stage: int = 1) -> dict[str, Any]:
    """Returns the content of a published file of the stage."""
    if stage == 1:
        return {"epoch": 3, "BLIP_Retrieval": state}
    beside = ("tau",)
    return {"epoch": 3, "state_dict": {name if name in beside else PREFIX + name: state[name] for name in state}}


def write_checkpoint(path: Path, stage: int = 1, seed: int = 0) -> Path:
    """Writes a tiny network as a published file of the stage, and its tokenizer's folder beside it."""
    write_vocabulary(path.parent)
    torch.save(container(published_state(stage, seed=seed), stage), path)
    return path


def write_base(folder: Path, **text_settings: Any) -> BlipForImageTextRetrieval:
    """Writes an untrained BLIP in transformers' form, with its own head width, and its vocabulary beside it."""
    text = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"vocab_size": len(WORDS) + ADDED, "max_position_embeddings": POSITIONS, "bos_token_id": None}
    vision = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 40, "num_hidden_layers": 1}
    vision |= {"image_size": SIZE, "patch_size": PATCH, "layer_norm_eps": 1e-6}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BlipConfig(text_config=text | text_settings, vision_config=vision, image_text_hidden_size=DIM)
        network = BlipForImageTextRetrieval(config).eval()
        for parameter in network.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape)
    network.save_pretrained(folder)
    write_vocabulary(folder)
    return network
