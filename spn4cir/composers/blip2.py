"""BLIP-2: the Q-Former fuses the reference image with the text, then reads the fusion followed by the text.

Source: Bai et al., "Sentence-level Prompts Benefit Composed Image Retrieval", ICLR 2024 (SPRC's align-prompt model),
over Li et al., "BLIP-2", ICML 2023; as fine-tuned by SPN4CIR.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2VisionConfig, Blip2VisionModel

from spn4cir.composers.base import ComposerModule, copies, trainable
from spn4cir.composers.bert_tokenizer import BertWords, Tokens
from spn4cir.composers.blip2_keys import KEYS, filled_extras, from_base_name, join_biases, split_biases
from spn4cir.composers.hosted import base_network, base_options, fill
from spn4cir.composers.protocol import PUBLISHED, ImageFeatures, Options, Sizes, Trained
from spn4cir.composers.qformer import PUBLISHED_SIZES, SIZED, QFormer, qformer_config, qformer_sizes, vision_config
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess
from spn4cir.losses import INFO_NCE, Contrast, token_info_nce, token_scores
from spn4cir.weights import check_tensors

ADDED_TOKENS = ("[DEC]",)
MAX_TOKENS = 32
MAX_WORDS = 50
_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_LN_VISION_EPS = 1e-5
# Initial value in LAVIS; training sets its own.
_BASE_TEMPERATURE = 0.07
# Modules of the copied Q-Former that the second pass does not use.
_UNUSED = ("crossattention.", "intermediate_query.", "output_query.")


class SecondPass(nn.Module):
    """Computes the query from the fusion and the text.

    Args:
        qformer: reads the fusion and the text.
        text_proj: projects its output at the text's first token.
    """

    def __init__(self, qformer: QFormer, text_proj: nn.Linear) -> None:
        super().__init__()
        self.qformer = qformer
        self.text_proj = text_proj

    def forward(self, fusion: Float[Tensor, "batch queries width"], text: Tokens) -> Float[Tensor, "batch dim"]:
        """Returns normalise(text_proj(output at the text's first token))."""
        output = self.qformer(fusion, text)
        return F.normalize(self.text_proj(output[:, fusion.shape[1]]).float(), dim=-1)


class Blip2Composer(ComposerModule):
    """BLIP-2's EVA ViT and Q-Former, and a projection of its queries and of the text.

    Before stage 2, both passes use one Q-Former. Stage 2 trains a copy of it and of `text_proj` for the second pass.

    Args:
        vision: configuration of the ViT.
        qformer: configuration of the Q-Former.
        queries: number of query tokens, and of tokens of a target.
        dim: dimension of queries and targets.
        words: the tokenizer.
    """

    family: ClassVar[str] = "blip2"
    backbone: ClassVar[str] = "BLIP-2 EVA ViT-g/14"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": ("vision_model.",),
        "text": ("qformer.", "query_tokens"),
        "second pass": ("second.",),
    }
    frozen: ClassVar[tuple[str, ...]] = ("vision_model", "qformer", "vision_proj")

    def __init__(
        self, vision: Blip2VisionConfig, qformer: Blip2QFormerConfig, queries: int, dim: int, words: BertWords
    ) -> None:
        super().__init__()
        assert isinstance(vision.image_size, int)
        self.preprocess = Preprocess(vision.image_size)
        self.vision_model = Blip2VisionModel(vision)
        self.vision_model.post_layernorm.eps = _LN_VISION_EPS
        self.qformer = QFormer(qformer)
        self.query_tokens = nn.Parameter(torch.zeros(1, queries, qformer.hidden_size))
        self.vision_proj = nn.Linear(qformer.hidden_size, dim)
        self.text_proj = nn.Linear(qformer.hidden_size, dim)
        self.second: SecondPass | None = None
        self._words = words

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns reference and target features.

        The reference is ln_vision(ViT), (batch, patches + 1, width). The target is the projected outputs at the query
        tokens, (batch, queries, dim), unit norm. The ViT runs in float16 on a GPU, as in the original code.
        """
        with _half_on_gpu(images.device):
            tokens = self.vision_model(images).last_hidden_state.float()
        outputs = self.qformer(self.query_tokens.expand(len(tokens), -1, -1), image=tokens)
        return ImageFeatures(tokens, F.normalize(self.vision_proj(outputs).float(), dim=-1))

    def compose(
        self, reference: Float[Tensor, "batch tokens image_width"], texts: Sequence[str]
    ) -> Float[Tensor, "batch dim"]:
        """Returns the output of the second pass over the fusion of each reference with its text, unit norm."""
        cut = [" ".join(clean(text).split()[:MAX_WORDS]) for text in texts]
        return self.query(reference, self._words.encode(cut, self.max_tokens, fill=True))

    def query(self, reference: Float[Tensor, "batch tokens image_width"], text: Tokens) -> Float[Tensor, "batch dim"]:
        """Returns the queries of `compose` for texts given as token ids, unit norm."""
        text = Tokens(text.ids.to(reference.device), text.mask.to(reference.device))
        query: Tensor = self._second_pass(self.fuse(reference, text), text)
        return query

    def fuse(
        self, reference: Float[Tensor, "batch tokens image_width"], text: Tokens
    ) -> Float[Tensor, "batch queries width"]:
        """Returns the Q-Former's outputs at the query tokens, which attend to text and image."""
        queries = self.query_tokens.expand(len(reference), -1, -1)
        outputs: Tensor = self.qformer(queries, text, reference)
        return outputs[:, : queries.shape[1]]

    @property
    def _second_pass(self) -> SecondPass:
        """The copies that stage 2 trains, or the modules that they are copied from."""
        return SecondPass(self.qformer, self.text_proj) if self.second is None else self.second

    def score(
        self, queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "gallery tokens dim"]
    ) -> Float[Tensor, "queries gallery"]:
        """Returns the largest dot product of each query with a candidate's tokens."""
        return token_scores(queries, targets)

    def contrast(
        self,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates tokens dim"],
        labels: Int[Tensor, " batch"],
        temperature: float | Float[Tensor, ""],
        contrast: Contrast = INFO_NCE,
    ) -> Float[Tensor, ""]:
        """Returns the InfoNCE loss over the largest dot products, or that of `contrast`."""
        return token_info_nce(queries, targets, labels, temperature, contrast)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of the cleaned text before truncation, start and end included.

        A text of more than `MAX_WORDS` words also exceeds `max_tokens`, because a word is at least one token.
        """
        return self._words.count(clean(text))

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens that are read of a text."""
        return MAX_TOKENS

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokenizer's words without `[DEC]`. Raises InputError if they cannot be read."""
        return self._words.vocabulary

    def train(self, mode: bool = True) -> Self:
        """Turns dropout on or off; always off in a frozen Q-Former, as the original stores fusions without dropout."""
        super().train(mode)
        if self.second is not None:
            self.qformer.eval()
        return self

    def train_stage(self, stage: int) -> Trained:
        """Freezes what the stage does not train, and makes the copies of stage 2.

        Stage 1 trains everything except the ViT, `ln_vision` included. Stage 2 trains the parameters of the copies that
        the second pass uses.
        """
        if stage == 2 and self.second is None:
            self.second = copy.deepcopy(self._second_pass)
        towers: list[nn.Module] = [self.vision_model.post_layernorm, self.qformer]
        projections: list[nn.Module] = [self.vision_proj, self.text_proj]
        self.vision_model.requires_grad_(False)
        for module in (*towers, *projections):
            module.requires_grad_(stage == 1)
        self.query_tokens.requires_grad_(stage == 1)
        if self.second is not None:
            for name, parameter in self.second.named_parameters():
                parameter.requires_grad_(not any(part in name for part in _UNUSED))
            towers.append(self.second.qformer)
            projections.append(self.second.text_proj)
        queries = [self.query_tokens] if stage == 1 else []
        return Trained(trainable(towers) + queries, trainable(projections))

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the tensors of the ViT, the first Q-Former, the projection of its queries, and the queries."""
        yield from super().frozen_tensors()
        yield "query_tokens", self.query_tokens

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns `{"epoch", "Blip2QformerCirAlignPrompt"}` for stage 1, `{"epoch", "state_dict"}` for stage 2.

        In a stage-2 file the names have the prefix `blip_model.`. The tensors in `extras` are not included; the
        original code ignores absent names and does not use these tensors. Raises InputError for stage 1 if the network
        has a separate second pass.
        """
        if stage == 1 and self.second is not None:
            raise InputError(
                "family 'blip2': a stage-1 file cannot contain the second pass that stage 2 trained; "
                "write the network as stage 2"
            )
        state = copies(self._published_names(stage))
        if stage == 1:
            return {"epoch": epoch, "Blip2QformerCirAlignPrompt": state}
        return {"epoch": epoch, "state_dict": {f"blip_model.{name}": tensor for name, tensor in state.items()}}

    def _published_names(self, stage: int) -> dict[str, Tensor]:
        """Returns the tensors of a stage's files, by their published names."""
        second = self._second_pass.state_dict(prefix="second.") if stage == 2 else {}
        return split_biases(KEYS[stage].to_published(self.state_dict() | second))

    def extras(self, stage: int) -> dict[str, Tensor]:
        """Returns LAVIS's other heads and position buffers, filled with fixed values."""
        return filled_extras(self._published_names(stage))

    def sizes(self) -> Sizes:
        """Returns the sizes in the configurations of ViT and Q-Former."""
        embedding = (self.query_tokens.shape[1], self.text_proj.out_features)
        return qformer_sizes(self.vision_model.config, self.qformer.encoder.config, embedding)

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """Returns the sizes of the published network, or None for another model."""
        return PUBLISHED_SIZES if model == cls.backbone else None

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network from BLIP-2's names.

        Tensors that only the original's training or its other tasks use are dropped: `itm_head`, `prompt_tokens`,
        `Qformer.cls` and position buffers. Raises InputError that lists missing, unexpected and misshapen tensors.
        """
        if missing := [name for name in SIZED if name not in state]:
            raise InputError(f"{place}: is not a BLIP-2 checkpoint: missing {missing}; check the file and the family")
        try:
            composer = cls._empty(state, stage, place, options)
        except (ValueError, IndexError, TypeError, RuntimeError, ZeroDivisionError) as error:
            raise InputError(f"{place}: the sizes of its tensors fit no BLIP-2 ({error}); check the file") from None
        join_biases(state, place)
        ours = KEYS[stage].to_ours(state, place)
        check_tensors(split_biases(KEYS[stage].to_published(ours)), composer._published_names(stage), place)
        fill(composer, ours)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds the network from a `Blip2ForImageTextRetrieval` of transformers, without its image-text matching head.

        The eps of its norms are LAVIS's, because the eps of `ln_vision` in transformers differs. The tokenizer is the
        one in `options`, else the one in the model's folder, else the default. Raises InputError if the model cannot be
        loaded or is of another kind.
        """
        network = base_network("Blip2ForImageTextRetrieval", "blip-2", model, tag)
        options = base_options((network.config.vision_config, network.config.qformer_config), model, options)
        ours = {from_base_name(name): tensor for name, tensor in network.state_dict().items()}
        del ours["itm_head.weight"], ours["itm_head.bias"]
        ours["temperature"] = torch.tensor(_BASE_TEMPERATURE)
        return cls.from_state(split_biases(KEYS[1].to_published(ours)), 1, f"base model {model}", options)

    @classmethod
    def _empty(cls, state: dict[str, Tensor], stage: int, place: str, options: Options) -> Self:
        """Returns a composer of the sizes that the shapes imply, on the meta device."""
        vision, qformer = vision_config(state, options), qformer_config(state, options)
        words = BertWords(options, ADDED_TOKENS, qformer.vocab_size, place)
        with torch.device("meta"):
            composer = cls(vision, qformer, state["query_tokens"].shape[1], state["text_proj.weight"].shape[0], words)
            if stage == 2:
                composer.second = copy.deepcopy(composer._second_pass)
        return composer


def clean(text: str) -> str:
    """Cleans a text as LAVIS does, without truncation: lower case, some punctuation and runs of spaces to one space."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split())


def _half_on_gpu(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", dtype=torch.float16) if device.type == "cuda" else nullcontext()
