"""BLIP: the text encoder reads the modification text and, by cross-attention, the reference image's tokens.

Source: Liu et al., "Candidate set re-ranking for composed image retrieval with dual multi-modal encoder", TMLR 2024
(its first stage), over Li et al., "BLIP", ICML 2022; as fine-tuned by SPN4CIR.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from spn4cir.composers.base import ComposerModule, copies, trainable
from spn4cir.composers.bert_tokenizer import BertWords, Tokens
from spn4cir.composers.hosted import VIT_PAIRS, base_network, base_options, fill
from spn4cir.composers.protocol import PUBLISHED, ImageFeatures, Options, Sizes, Tower, Trained
from spn4cir.composers.state_dicts import KeyMap, count_modules, heads
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess
from spn4cir.weights import HEAD_WIDTH, check_tensors

ADDED_TOKENS = ("[DEC]", "[ENC]")
# Dropout of BERT and of BLIP's text encoder; active only if training turns it on.
_DROPOUT = 0.1
_ATTENTION = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
_SAME = (
    *(f"text_encoder.embeddings.{name}" for name in ("word_embeddings", "position_embeddings", "LayerNorm")),
    *(
        f"text_encoder.encoder.layer.{{i}}.{name}"
        for name in (
            *(f"{kind}.{part}" for kind in ("attention", "crossattention") for part in _ATTENTION),
            "intermediate.dense",
            "output.dense",
            "output.LayerNorm",
        )
    ),
    "vision_proj",
    "text_proj",
)
_PAIRS = (
    *VIT_PAIRS,
    ("visual_encoder.norm", "vision_model.post_layernorm"),
    *((name, name) for name in _SAME),
)
_POSITIONS = "text_encoder.embeddings.position_ids"
_EXTRAS = (_POSITIONS.replace(".", r"\."),)
# By stage. A second-stage file has a separate temperature `tau` and does not use the network's `temp`.
KEYS = {
    1: KeyMap((*_PAIRS, ("temp", "temperature")), _EXTRAS),
    2: KeyMap((*_PAIRS, ("tau", "temperature")), (*_EXTRAS, "temp")),
}
_PUBLISHED_SIZES = Sizes(
    image_size=384,
    patch=16,
    image=Tower("ViT", 768, 12, heads=12),
    text=Tower("BERT", 768, 12, heads=12),
    positions=512,
    words=30524,
    embedding=(256,),
)
_REQUIRED = (
    "visual_encoder.pos_embed",
    "visual_encoder.patch_embed.proj.weight",
    "visual_encoder.blocks.0.mlp.fc1.weight",
    "text_encoder.embeddings.word_embeddings.weight",
    "text_encoder.embeddings.position_embeddings.weight",
    "text_encoder.encoder.layer.0.intermediate.dense.weight",
    "text_proj.weight",
)


class BlipComposer(ComposerModule):
    """BLIP's ViT and BERT with cross-attention, and a projection of each.

    Args:
        vision_model: the ViT; its configuration contains the side of its input.
        text_encoder: the BERT, without pooler.
        dim: dimension of queries and targets.
        words: the tokenizer.
    """

    family: ClassVar[str] = "blip"
    backbone: ClassVar[str] = "BLIP ViT-B/16"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": ("vision_model.",), "text": ("text_encoder.",)}
    frozen: ClassVar[tuple[str, ...]] = ("vision_model", "vision_proj")

    def __init__(self, vision_model: BlipVisionModel, text_encoder: BlipTextModel, dim: int, words: BertWords) -> None:
        super().__init__()
        self.preprocess = Preprocess(cast(int, vision_model.config.image_size))
        self.vision_model = vision_model
        self.text_encoder = text_encoder
        self.vision_proj = nn.Linear(vision_model.config.hidden_size, dim, device=vision_model.device)
        self.text_proj = nn.Linear(text_encoder.config.hidden_size, dim, device=text_encoder.device)
        self._words = words

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns reference and target features.

        The reference is the ViT's tokens after its last norm, (batch, tokens, width). The target is the projected
        class token, (batch, dim), unit norm.
        """
        tokens = self.vision_model(images).last_hidden_state
        return ImageFeatures(tokens, F.normalize(self.vision_proj(tokens[:, 0]).float(), dim=-1))

    def compose(
        self, reference: Float[Tensor, "batch tokens width"], texts: Sequence[str]
    ) -> Float[Tensor, "batch dim"]:
        """Returns normalise(text_proj(first output of the text encoder)); `[ENC]` replaces the first token."""
        tokens = self._words.encode(texts, self.max_tokens)
        tokens.ids[:, 0] = self._words.id("[ENC]")
        return self.query(reference, tokens)

    def query(self, reference: Float[Tensor, "batch tokens width"], text: Tokens) -> Float[Tensor, "batch dim"]:
        """Returns the queries of `compose` for texts given as token ids, unit norm."""
        output = self.text_encoder(
            input_ids=text.ids.to(reference.device),
            attention_mask=text.mask.to(reference.device),
            encoder_hidden_states=reference.float(),
        )
        return F.normalize(self.text_proj(output.last_hidden_state[:, 0]).float(), dim=-1)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a text before truncation, start and end included."""
        return self._words.count(text)

    @property
    def max_tokens(self) -> int:
        """Number of positions of the text encoder."""
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokenizer's words without `[DEC]` and `[ENC]`. Raises InputError if they cannot be read."""
        return self._words.vocabulary

    def train_stage(self, stage: int) -> Trained:
        """Freezes the image side; both stages train the text encoder and its projection."""
        del stage
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)
        for trained in (self.text_encoder, self.text_proj):
            trained.requires_grad_(True)
        return Trained(trainable([self.text_encoder]), trainable([self.text_proj]))

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns `{"epoch", "BLIP_Retrieval"}` for stage 1, `{"epoch", "state_dict"}` for stage 2.

        In a stage-2 file the names have the prefix `blip.`, and `tau` is stored without it.
        """
        state = copies(KEYS[stage].to_published(self.state_dict()))
        state[_POSITIONS] = torch.arange(self.max_tokens)[None]
        if stage == 1:
            return {"epoch": epoch, "BLIP_Retrieval": state}
        tau = state.pop("tau")
        network = {f"blip.{name}": tensor for name, tensor in (state | {"temp": tau.clone()}).items()}
        return {"epoch": epoch, "state_dict": network | {"tau": tau}}

    def sizes(self) -> Sizes:
        """Returns the sizes in the configurations of both towers."""
        vision, text = self.vision_model.config, self.text_encoder.config
        return Sizes(
            image_size=self.preprocess.size,
            patch=self.vision_model.embeddings.patch_embedding.kernel_size[0],
            image=Tower("ViT", vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads),
            text=Tower("BERT", text.hidden_size, text.num_hidden_layers, text.num_attention_heads),
            positions=text.max_position_embeddings,
            words=text.vocab_size,
            embedding=(self.text_proj.out_features,),
        )

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """Returns the sizes of the published network, or None for another model."""
        return _PUBLISHED_SIZES if model == cls.backbone else None

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network from BLIP's names; a stage-1 file may lack `temp`.

        Raises InputError that lists missing, unexpected and misshapen tensors.
        """
        if missing := [name for name in _REQUIRED if name not in state]:
            raise InputError(f"{place}: is not a BLIP checkpoint: missing {missing}; check the file and the family")
        try:
            composer = cls._empty(state, place, options)
        except (ValueError, IndexError, TypeError, RuntimeError, ZeroDivisionError) as error:
            raise InputError(f"{place}: the sizes of its tensors fit no BLIP ({error}); check the file") from None
        ours = KEYS[stage].to_ours(state, place)
        if stage == 1:
            ours.setdefault("temperature", composer.temperature.detach())
        names = KEYS[stage].to_published
        check_tensors(names(ours), names(composer.state_dict()), place)
        fill(composer, ours)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds the network from a `BlipForImageTextRetrieval` of transformers, without its image-text matching head.

        The tokenizer is the one in `options`, else the one in the model's folder, else the default. Raises InputError
        if the model cannot be loaded or is of another kind.
        """
        network = base_network("BlipForImageTextRetrieval", "blip", model, tag)
        options = base_options((network.config.vision_config, network.config.text_config), model, options)
        state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("itm_head.")}
        return cls.from_state(KEYS[1].to_published(state), 1, f"base model {model}", options)

    @classmethod
    def _empty(cls, state: Mapping[str, Tensor], place: str, options: Options) -> Self:
        """Returns a composer of the sizes that the shapes imply, on the meta device except for its temperature."""
        with torch.device("meta"):
            vision_model = BlipVisionModel(_vision_config(state, options))
            text_encoder = BlipTextModel(_text_config(state, options), add_pooling_layer=False)
        words = BertWords(options, ADDED_TOKENS, text_encoder.config.vocab_size, place)
        return cls(vision_model, text_encoder, state["text_proj.weight"].shape[0], words)


def _vision_config(state: Mapping[str, Tensor], options: Options) -> BlipVisionConfig:
    _, positions, width = state["visual_encoder.pos_embed"].shape
    patch = state["visual_encoder.patch_embed.proj.weight"].shape[-1]
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=count_modules(state, "visual_encoder.blocks."),
        num_attention_heads=heads(width, options.vision_head_width or HEAD_WIDTH),
        image_size=round((positions - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def _text_config(state: Mapping[str, Tensor], options: Options) -> BlipTextConfig:
    words, width = state["text_encoder.embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=state["visual_encoder.pos_embed"].shape[-1],
        intermediate_size=state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=count_modules(state, "text_encoder.encoder.layer."),
        num_attention_heads=heads(width, options.text_head_width or HEAD_WIDTH),
        max_position_embeddings=state["text_encoder.embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=1e-12,
        hidden_dropout_prob=_DROPOUT,
        attention_probs_dropout_prob=_DROPOUT,
        bos_token_id=None,
        eos_token_id=None,
        sep_token_id=None,
    )
