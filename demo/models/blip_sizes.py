"""Sizes and initial values of the small BLIP and BLIP-2, by the names of transformers' configurations."""

from __future__ import annotations

from typing import Any

from torch import nn

from demo.settings import RetrieverSettings

# Standard deviation of initial weights. The published one suits widths many times larger and learns slowly here.
FIRST_WEIGHTS = 0.05
# Standard deviation of initial position vectors. They must matter beside the patches from the start, whose vectors
# vary about three times as much.
FIRST_PLACES = 0.2
# Number of positions of the text encoders.
MAX_TOKENS = 64


def vision_sizes(settings: RetrieverSettings, image_size: int, head_width: int) -> dict[str, Any]:
    """Returns the sizes of the image tower."""
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
    """Returns the sizes of the text encoder with `words` word embeddings. It is trained without dropout."""
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
    """Initialises the position and class vectors of an image tower."""
    for vectors in (vision_model.embeddings.position_embedding, vision_model.embeddings.class_embedding):
        nn.init.normal_(vectors, std=FIRST_PLACES)
