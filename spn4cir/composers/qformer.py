"""BLIP-2's networks in transformers: the Q-Former with its text embeddings, and configurations from shapes."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

from spn4cir.composers.bert_tokenizer import Tokens
from spn4cir.composers.protocol import Options, Sizes, Tower
from spn4cir.composers.state_dicts import count_modules, heads
from spn4cir.weights import EVA_HEAD_WIDTH, HEAD_WIDTH

PUBLISHED_SIZES = Sizes(
    image_size=224,
    patch=14,
    image=Tower("EVA ViT", 1408, 39, heads=16),
    text=Tower("Q-Former", 768, 12, heads=12),
    positions=512,
    words=30523,
    embedding=(32, 256),
)
# Dropout of BERT; active only if training turns it on.
_DROPOUT = 0.1
_VIT = "visual_encoder."
_LAYERS = "Qformer.bert.encoder.layer."
# Tensors whose shapes determine the sizes.
SIZED = (
    f"{_VIT}pos_embed",
    f"{_VIT}patch_embed.proj.weight",
    f"{_VIT}blocks.0.mlp.fc1.weight",
    "Qformer.bert.embeddings.word_embeddings.weight",
    "Qformer.bert.embeddings.position_embeddings.weight",
    f"{_LAYERS}0.intermediate.dense.weight",
    "query_tokens",
    "text_proj.weight",
)


class QFormer(nn.Module):
    """A Q-Former that reads queries followed by a text, and an image by cross-attention.

    Args:
        config: configuration of the network.
    """

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.embeddings = Blip2TextEmbeddings(config)  # type: ignore[no-untyped-call]
        self.encoder = Blip2QFormerModel(config)

    def forward(
        self,
        queries: Float[Tensor, "batch queries width"],
        text: Tokens | None = None,
        image: Float[Tensor, "batch tokens image_width"] | None = None,
    ) -> Float[Tensor, "batch positions width"]:
        """Returns the outputs at the queries, then at the positions of the text.

        With an image, the queries pass through separate feed-forward layers. Without an image, all positions pass
        through the feed-forward layers of the text.
        """
        hidden, mask = queries, None
        if text is not None:
            hidden = self.embeddings(input_ids=text.ids, query_embeds=queries)
            mask = torch.cat([text.mask.new_ones(queries.shape[:2]), text.mask], dim=1)
        output: Tensor = self.encoder(
            query_embeds=hidden,
            query_length=0 if image is None else queries.shape[1],
            attention_mask=mask,
            encoder_hidden_states=image,
        ).last_hidden_state
        return output


def vision_config(state: Mapping[str, Tensor], options: Options) -> Blip2VisionConfig:
    """Returns the configuration of the EVA ViT in a published state dict."""
    _, positions, width = state[f"{_VIT}pos_embed"].shape
    patch = state[f"{_VIT}patch_embed.proj.weight"].shape[-1]
    return Blip2VisionConfig(
        hidden_size=width,
        intermediate_size=state[f"{_VIT}blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=count_modules(state, f"{_VIT}blocks."),
        num_attention_heads=heads(width, options.vision_head_width or EVA_HEAD_WIDTH),
        image_size=round((positions - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def qformer_config(state: Mapping[str, Tensor], options: Options) -> Blip2QFormerConfig:
    """Returns the configuration of the Q-Former in a published state dict, including its cross-attention frequency."""
    words, width = state["Qformer.bert.embeddings.word_embeddings.weight"].shape
    layers = count_modules(state, _LAYERS)
    crossed = [i for i in range(1, layers) if f"{_LAYERS}{i}.crossattention.self.query.weight" in state]
    return Blip2QFormerConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=state[f"{_VIT}pos_embed"].shape[-1],
        intermediate_size=state[f"{_LAYERS}0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=heads(width, options.text_head_width or HEAD_WIDTH),
        max_position_embeddings=state["Qformer.bert.embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=1e-12,
        hidden_dropout_prob=_DROPOUT,
        attention_probs_dropout_prob=_DROPOUT,
        cross_attention_frequency=min(crossed, default=layers),
        use_qformer_text_input=True,
    )


def qformer_sizes(vision: Blip2VisionConfig, qformer: Blip2QFormerConfig, embedding: tuple[int, ...]) -> Sizes:
    """Returns the sizes of a network with both configurations; `embedding` is the shape of a target."""
    assert isinstance(vision.image_size, int)
    assert isinstance(vision.patch_size, int)
    return Sizes(
        image_size=vision.image_size,
        patch=vision.patch_size,
        image=Tower("EVA ViT", vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads),
        text=Tower("Q-Former", qformer.hidden_size, qformer.num_hidden_layers, qformer.num_attention_heads),
        positions=qformer.max_position_embeddings,
        words=qformer.vocab_size,
        embedding=embedding,
    )
