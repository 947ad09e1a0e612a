"""The small BLIP-2, with the proportions of the published network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from demo.models.bert_tokenizer import WordTokenizer
from demo.models.blip_sizes import FIRST_WEIGHTS, spread_places, text_sizes, vision_sizes
from demo.settings import Blip2
from spn4cir.weights import EVA_HEAD_WIDTH, HEAD_WIDTH

ADDED = ("[DEC]",)


def make_network(settings: Blip2, image_size: int, words: int) -> Any:
    """Returns an untrained BLIP-2 with `words` word embeddings, that of the added token included."""
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    config = Blip2Config(
        vision_config=vision_sizes(settings, image_size, EVA_HEAD_WIDTH),
        qformer_config=text_sizes(settings, words, HEAD_WIDTH) | {"use_qformer_text_input": True},
        num_query_tokens=settings.query_tokens,
        image_text_hidden_size=settings.embed_dim,
    )
    network = Blip2ForImageTextRetrieval(config)
    spread_places(network.vision_model)
    torch.nn.init.normal_(network.query_tokens, std=FIRST_WEIGHTS)
    for layer in network.vision_model.encoder.layers:
        _hold_key_bias(layer.self_attn.qkv.bias)
    return network


def _hold_key_bias(bias: torch.nn.Parameter) -> None:
    """Keeps the bias of the keys at 0: EVA's keys have none, and published files have no tensor for one."""
    held = torch.ones_like(bias)
    held[len(bias) // 3 : 2 * len(bias) // 3] = 0
    hold: Any = bias.register_hook
    hold(lambda gradient: gradient * held)


class Blip2Reader:
    """BLIP-2 for retrieval. An image has several vectors; a query passes the Q-Former twice, first with the image."""

    # As in the pretraining of BLIP-2.
    tower_learns = False

    def __init__(self, settings: Blip2, image_size: int) -> None:
        self.words = WordTokenizer(ADDED)
        self.network = make_network(settings, image_size, self.words.count)

    def targets(self, states: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch targets dim"]:
        """Returns the projected output of the query tokens that attend to the states, at unit norm."""
        queries = self.network.query_tokens.expand(len(states), -1, -1)
        outputs = self._former(queries, queries.shape[1], encoder_hidden_states=states)
        return normalize(self.network.vision_projection(outputs), dim=-1)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns the projected first token of a pass without query tokens and image, at unit norm."""
        tokens = self.words.encode(texts)
        embeddings = self.network.embeddings(input_ids=tokens["input_ids"])
        outputs = self._former(embeddings, 0, attention_mask=tokens["attention_mask"])
        return normalize(self.network.text_projection(outputs[:, 0]), dim=-1)

    def compose(self, states: Float[Tensor, "batch tokens width"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries, from two passes.

        The first takes query tokens and text with the image, the second its output for the query tokens and the text,
        without the image.
        """
        tokens = self.words.encode(texts)
        queries = self.network.query_tokens.expand(len(states), -1, -1)
        count = queries.shape[1]
        mask = torch.cat([torch.ones(queries.shape[:2], dtype=torch.long), tokens["attention_mask"]], dim=1)
        fused = self._pass(queries, tokens["input_ids"], mask, count, encoder_hidden_states=states)[:, :count]
        outputs = self._pass(fused, tokens["input_ids"], mask, 0)
        return normalize(self.network.text_projection(outputs[:, count]), dim=-1)

    def _pass(
        self,
        queries: Float[Tensor, "batch tokens width"],
        ids: Int[Tensor, "batch length"],
        mask: Int[Tensor, "batch all"],
        count: int,
        **image: Tensor,
    ) -> Float[Tensor, "batch all width"]:
        """Encodes vectors and text together; the first `count` of them pass through the layers of the query tokens."""
        embeddings = self.network.embeddings(input_ids=ids, query_embeds=queries)
        return self._former(embeddings, count, attention_mask=mask, **image)

    def _former(
        self, embeddings: Float[Tensor, "batch length width"], count: int, **others: Tensor
    ) -> Float[Tensor, "batch length width"]:
        outputs: Tensor = self.network.qformer(query_embeds=embeddings, query_length=count, **others).last_hidden_state
        return outputs

    def score(
        self, queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "gallery tokens dim"]
    ) -> Float[Tensor, "queries gallery"]:
        """Returns the highest dot product of every query with the vectors of every image."""
        return torch.einsum("qd,gtd->qgt", queries, targets).amax(dim=2)
