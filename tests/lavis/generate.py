"""Runs LAVIS's own BLIP and BLIP-2 with small drawn weights; writes inputs and outputs (see tests/golden/lavis).

Usage, in LAVIS's environment: `python -m tests.lavis.generate FOLDER`.
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from lavis.models.blip2_models import Qformer as qformer
from lavis.models.blip2_models.blip2 import LayerNorm
from lavis.models.eva_vit import VisionTransformer as EvaTransformer
from lavis.models.med import BertConfig, XBertEncoder
from lavis.models.vit import VisionTransformerEncoder
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.lavis.weights import state

BERT_WIDTH, HEAD_WIDTH, WORDS, PROJECTION = 128, 64, 120, 32
VIT_WIDTH, EVA_WIDTH, EVA_HEAD_WIDTH, EVA_MLP_RATIO = 192, 176, 88, 4.3637
QUERIES = 4
PAD, CLS, SEP, ENCODER = 0, 101, 102, WORDS - 1
TEXT_LENGTHS = (5, 8, 3)
REFERENCE_INDEX = torch.tensor([0, 1, 0])
NOT_IN_A_GOLDEN = ("position_ids", ".cls.")


def bert_config(encoder_width: int, layers: int, **more: int) -> BertConfig:
    """LAVIS's settings of its text encoder at the small size, with the published eps and activation."""
    return BertConfig(
        vocab_size=WORDS,
        hidden_size=BERT_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=BERT_WIDTH // HEAD_WIDTH,
        intermediate_size=4 * BERT_WIDTH,
        max_position_embeddings=512,
        layer_norm_eps=1e-12,
        pad_token_id=PAD,
        encoder_width=encoder_width,
        add_cross_attention=True,
        add_type_embeddings=False,
        **more,
    )


class Blip(nn.Module):
    """The parts of LAVIS's retrieval model that the published first stage keeps, under their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformerEncoder(
            img_size=48, patch_size=16, embed_dim=VIT_WIDTH, depth=2, num_heads=VIT_WIDTH // HEAD_WIDTH
        )
        self.text_encoder = XBertEncoder(bert_config(VIT_WIDTH, layers=2), add_pooling_layer=False)
        self.vision_proj = nn.Linear(VIT_WIDTH, PROJECTION)
        self.text_proj = nn.Linear(BERT_WIDTH, PROJECTION)
        self.temp = nn.Parameter(torch.zeros(()))

    def outputs(self, images: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        tokens = self.visual_encoder(images)
        text = SimpleNamespace(input_ids=ids, attention_mask=mask)
        fused = self.text_encoder.forward_automask(text, tokens[REFERENCE_INDEX]).last_hidden_state
        return {
            "image_tokens": tokens,
            "target": normalize(self.vision_proj(tokens[:, 0]), dim=-1),
            "query": normalize(self.text_proj(fused[:, 0]), dim=-1),
        }


class Blip2(nn.Module):
    """The parts of LAVIS's `Blip2Qformer` that the published first stage keeps, under their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.visual_encoder = EvaTransformer(
            img_size=42,
            patch_size=14,
            embed_dim=EVA_WIDTH,
            depth=2,
            num_heads=EVA_WIDTH // EVA_HEAD_WIDTH,
            mlp_ratio=EVA_MLP_RATIO,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_mean_pooling=False,
        )
        self.ln_vision = LayerNorm(EVA_WIDTH)
        config = bert_config(EVA_WIDTH, layers=3, cross_attention_freq=2, query_length=QUERIES)
        self.Qformer = qformer.BertLMHeadModel(config)
        self.query_tokens = nn.Parameter(torch.zeros(1, QUERIES, BERT_WIDTH))
        self.vision_proj = nn.Linear(BERT_WIDTH, PROJECTION)
        self.text_proj = nn.Linear(BERT_WIDTH, PROJECTION)
        self.temp = nn.Parameter(torch.zeros(()))

    def outputs(self, images: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        tokens = self.ln_vision(self.visual_encoder(images))
        queries = self.query_tokens.expand(len(tokens), -1, -1)
        seen = self.Qformer.bert(query_embeds=queries, encoder_hidden_states=tokens).last_hidden_state
        fusion = self._fusion(tokens[REFERENCE_INDEX], ids, mask)
        return {
            "image_tokens": tokens,
            "target": normalize(self.vision_proj(seen), dim=-1),
            "fusion": fusion,
            "query": normalize(self.text_proj(self._second_pass(fusion, ids, mask)[:, QUERIES]), dim=-1),
        }

    def _fusion(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        queries = self.query_tokens.expand(len(tokens), -1, -1)
        output = self.Qformer.bert(
            ids, query_embeds=queries, attention_mask=_with_queries(mask), encoder_hidden_states=tokens
        )
        return output.last_hidden_state[:, :QUERIES]

    def _second_pass(self, fusion: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """With `query_length=0` the fusion also passes the text's feed-forward layers, as in SPRC."""
        bert = self.Qformer.bert
        hidden = bert.embeddings(input_ids=ids, query_embeds=fusion)
        extended = bert.get_extended_attention_mask(_with_queries(mask), hidden.shape[:2], hidden.device, False)
        return bert.encoder(hidden, attention_mask=extended, query_length=0).last_hidden_state


def _with_queries(mask: Tensor) -> Tensor:
    return torch.cat((mask.new_ones(len(mask), QUERIES), mask), dim=1)


def texts(first: int) -> tuple[Tensor, Tensor]:
    """Token ids padded to the longest text, and the attention mask; the first token is the one given."""
    generator = np.random.RandomState(0)
    ids = np.full((len(TEXT_LENGTHS), max(TEXT_LENGTHS)), PAD)
    for row, length in zip(ids, TEXT_LENGTHS, strict=True):
        row[:length] = (first, *generator.randint(1, CLS, size=length - 2), SEP)
    return torch.from_numpy(ids), torch.from_numpy((ids != PAD).astype(np.int64))


def draw_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Loads the drawn weights and returns the names and shapes that a golden file stores.

    Further tensors of a published file (buffers of positions, the tied language head) keep LAVIS's own values.
    """
    shapes = {
        name: json.dumps(list(tensor.shape))
        for name, tensor in model.state_dict().items()
        if not any(part in name for part in NOT_IN_A_GOLDEN)
    }
    drawn = {name: torch.from_numpy(values) for name, values in state(shapes.keys(), shapes.values()).items()}
    model.load_state_dict(drawn, strict=False)
    return {"names": np.array(list(shapes.keys())), "shapes": np.array(list(shapes.values()))}


@torch.no_grad()
def golden(model: nn.Module, image_size: int, first_token: int) -> dict[str, np.ndarray]:
    """Returns the content of one golden file."""
    fields = draw_weights(model.eval())
    pixels = np.random.RandomState(1).standard_normal((2, 3, image_size, image_size)).astype(np.float32)
    ids, mask = texts(first_token)
    inputs = {"images": torch.from_numpy(pixels), "input_ids": ids, "attention_mask": mask}
    outputs = model.outputs(*inputs.values())
    tensors = inputs | {"reference_index": REFERENCE_INDEX} | outputs
    return fields | {name: tensor.numpy() for name, tensor in tensors.items()}


def main(folder: Path) -> None:
    np.savez_compressed(folder / "blip.npz", **golden(Blip(), 48, ENCODER))
    np.savez_compressed(folder / "blip2.npz", **golden(Blip2(), 42, CLS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
