"""The small BLIP, with the proportions of the published network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from demo.models.bert_tokenizer import WordTokenizer
from demo.models.blip_sizes import spread_places, text_sizes, vision_sizes
from demo.settings import Blip
from spn4cir.weights import HEAD_WIDTH

ADDED = ("[DEC]", "[ENC]")


def make_network(settings: Blip, image_size: int, words: int) -> Any:
    """Returns an untrained BLIP with `words` word embeddings, those of the added tokens included."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    vision = vision_sizes(settings, image_size, HEAD_WIDTH)
    text = text_sizes(settings, words, HEAD_WIDTH) | {"bos_token_id": words - len(ADDED), "is_decoder": True}
    config = BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=settings.embed_dim)
    network = BlipForImageTextRetrieval(config)
    spread_places(network.vision_model)
    return network


class BlipReader:
    """BLIP for retrieval. An image has one vector; a query is the first token of the text encoder."""

    tower_learns = True

    def __init__(self, settings: Blip, image_size: int) -> None:
        self.words = WordTokenizer(ADDED)
        self.network = make_network(settings, image_size, self.words.count)

    def targets(self, states: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch dim"]:
        """Returns the projected first state of each image, at unit norm."""
        return normalize(self.network.vision_proj(states[:, 0]), dim=-1)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns the projected first token of the text encoder, at unit norm."""
        return self._queries(self.words.encode(texts))

    def compose(self, states: Float[Tensor, "batch tokens width"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries: the text encoder attends to the images, and its first token is `[ENC]`."""
        tokens = self.words.encode(texts)
        tokens["input_ids"][:, 0] = self.words.ids["[ENC]"]
        seen = torch.ones(states.shape[:2], dtype=torch.long)
        return self._queries({**tokens, "encoder_hidden_states": states, "encoder_attention_mask": seen})

    def _queries(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch dim"]:
        outputs = self.network.text_encoder(**inputs).last_hidden_state
        return normalize(self.network.text_proj(outputs[:, 0]), dim=-1)

    def score(
        self, queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "gallery dim"]
    ) -> Float[Tensor, "queries gallery"]:
        """Returns the dot product of every query with every target."""
        return queries @ targets.T
