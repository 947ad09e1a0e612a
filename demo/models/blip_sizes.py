"""Sizes and first values of the small BLIP's and BLIP-2's networks, as transformers' configurations name them."""

from __future__ import annotations

from typing import Any

from torch import nn

from demo.settings import RetrieverSettings

# Spread of first weights: the published one suits widths many times larger, and learns slowly here.
FIRST_WEIGHTS = 0.05
# Places in an image must tell from the start beside the patches, whose vectors spread about three times as far.
FIRST_PLACES = 0.2
# Positions of the text encoders.
MAX_TOKENS = 64


def vision_sizes(settings: RetrieverSettings, image_size: int, head_width: int) -> dict[str, Any]:
    """Of the image tower."""
    return {
        "hidden_size": settings.vision_width,
        "intermediate_size": 4 * settings.vision_width,
        "num_hidden_layers": settings.vision_layers,
        "num_attention_heads": settings.vision_width // head_width,
        "image_size": image_size,
        "patch_size": settings.patch_size,
        "layer_norm_eps": 1e-6,
        "initializer_range": FIRST_WEIGHTS,
    }


def text_sizes(settings: RetrieverSettings, words: int, head_width: int) -> dict[str, Any]:
    """Of the text encoder for `words` word embeddings; it learns without dropout."""
    return {
        "vocab_size": words,
        "hidden_size": settings.text_width,
        "intermediate_size": 4 * settings.text_width,
        "num_hidden_layers": settings.text_layers,
        "num_attention_heads": settings.text_width // head_width,
        "max_position_embeddings": MAX_TOKENS,
        "initializer_range": FIRST_WEIGHTS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def spread_places(vision_model: Any) -> None:
    """Gives a tower's place and class vectors their first values."""
    for vectors in (vision_model.embeddings.position_embedding, vision_model.embeddings.class_embedding):
        nn.init.normal_(vectors, std=FIRST_PLACES)
