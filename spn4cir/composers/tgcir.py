"""TG-CIR: images and texts as global and local tokens, composed token by token with learned weights.

Source: Wen et al., "Target-Guided Composed Image Retrieval", ACM MM 2023; as fine-tuned by SPN4CIR.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from spn4cir.composers.base import copies
from spn4cir.composers.openai_clip import ClipModule, base_clip, read_clip
from spn4cir.composers.protocol import PUBLISHED, ImageFeatures, Options, Trained
from spn4cir.composers.state_dicts import KeyMap
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess
from spn4cir.weights import check_tensors

GLOBAL_TOKENS = 4
LOCAL_TOKENS = 8

_CLIP = "backbone.clip."
# The files contain the visual tower twice: one module under two names.
_TOWER = "backbone.clip.visual."
_TWIN = "backbone.image_backbone."
_SHARED_PAIRS = (
    ("backbone.fc", "image_fc"),
    ("backbone.text_fc", "text_fc"),
    ("backbone.masks.weight", "image_tokens.masks"),
    ("backbone.tokenlearn.tokenizers.{i}.conv.0", "image_tokens.learners.{i}"),
    ("s_remain_map.{i}", "gate.{i}"),
)
_TEXT_PAIRS = (
    ("backbone.masks_text.weight", "text_tokens.masks"),
    ("backbone.tokenlearn_text.tokenizers.{i}.conv.0", "text_tokens.learners.{i}"),
)
# Tensors of the first stage's auxiliary losses; neither queries nor targets depend on them.
_EXTRAS = (r"local_weight", r"loss_T", r"t_(remain|replace)_map\.\d+\.(weight|bias)")
_TEXT_EXTRAS = (
    r"backbone\.masks_text\.weight",
    r"backbone\.tokenlearn_text\.tokenizers\.\d+\.conv\.0\.(weight|bias)",
)
KEYS = {1: KeyMap(_SHARED_PAIRS, _EXTRAS + _TEXT_EXTRAS), 2: KeyMap(_SHARED_PAIRS + _TEXT_PAIRS, _EXTRAS)}


class TokenMaker(nn.Module):
    """Computes global tokens, a feature times learned masks, and local tokens, means of a sequence weighted by maps.

    Args:
        dim: width of feature and sequence.
        global_tokens: number of masks. A mask is initialised to 1 on its share of the width, and to 0.1 elsewhere.
        local_tokens: number of learned attention maps, each a 1x1 convolution and a sigmoid.
    """

    def __init__(self, dim: int, global_tokens: int, local_tokens: int) -> None:
        super().__init__()
        self.masks = nn.Parameter(torch.full((global_tokens, dim), 0.1))
        with torch.no_grad():
            for mask, share in zip(self.masks, torch.arange(dim).tensor_split(global_tokens), strict=True):
                mask[share] = 1.0
        self.learners = nn.ModuleList(nn.Conv1d(dim, 1, kernel_size=1) for _ in range(local_tokens))

    def forward(
        self, feature: Float[Tensor, "batch dim"], sequence: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Returns the global tokens, then the local tokens."""
        weight, bias = (
            torch.cat([learner.get_parameter(name) for learner in self.learners]) for name in ("weight", "bias")
        )
        maps = F.linear(sequence, weight.squeeze(-1), bias).sigmoid()
        # Divides before it sums, because a sum over the sequence may exceed the range of half precision.
        local = (maps / sequence.shape[1]).transpose(1, 2) @ sequence
        return torch.cat([feature[:, None] * self.masks.relu(), local], dim=1)


class TgcirComposer(ClipModule):
    """TG-CIR over a CLIP network (OpenAI's names, quick GELU, ViT tower).

    Before stage 2, texts and images share masks and token learner. Stage 2 trains separate copies for the texts.

    Args:
        network: an open_clip CLIP model with a ViT.
        image_size: side of its square input, in pixels.
        global_tokens: number of tokens that are masked features.
        local_tokens: number of tokens that are weighted means of the tower's tokens.
    """

    family: ClassVar[str] = "tgcir"
    backbone: ClassVar[str] = "ViT-B-16"
    frozen: ClassVar[tuple[str, ...]] = ("clip.visual", "image_fc", "image_tokens")
    pretrained: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(
        self,
        network: CLIP,
        image_size: int,
        global_tokens: int = GLOBAL_TOKENS,
        local_tokens: int = LOCAL_TOKENS,
    ) -> None:
        super().__init__(network, Preprocess(image_size, target_ratio=None))
        text_width, dim = network.text_projection.shape
        self.image_fc = nn.Linear(network.visual.proj.shape[0], dim)
        self.text_fc = nn.Linear(text_width, dim)
        self.image_tokens = TokenMaker(dim, global_tokens, local_tokens)
        self.text_tokens = self.image_tokens
        self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 1), nn.Sigmoid())

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns reference and target features.

        The reference is the tokens (batch, tokens, dim), not normalised. The target is their mean (batch, dim), unit
        norm. The local tokens are computed from the tower's sequence, class token included, before its last LayerNorm.
        """
        tower = self.clip.forward_intermediates(
            image=images, image_indices=1, normalize=False, image_output_fmt="NLC", image_output_extra_tokens=True
        )
        sequence = torch.cat([tower["image_intermediates_prefix"][-1], tower["image_intermediates"][-1]], dim=1)
        tokens = self.image_tokens(tower["image_features"], self.image_fc(sequence))
        return ImageFeatures(tokens, _unit_mean(tokens))

    def compose(self, reference: Float[Tensor, "batch tokens dim"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns normalise(mean over the tokens of m * reference + (1 - m) * text).

        m is one scalar per token, sigmoid(MLP(reference, text)). The local text tokens are computed from all positions
        after the last LayerNorm, padding included.
        """
        tower = self.clip.forward_intermediates(
            text=self.tokens(texts, reference.device),
            text_indices=1,
            normalize=False,
            normalize_intermediates=True,
        )
        text = self.text_tokens(tower["text_features"], self.text_fc(tower["text_intermediates"][-1])).float()
        reference = reference.float()
        weight = self.gate(torch.cat([reference, text], dim=-1)).float()
        return _unit_mean(weight * reference + (1 - weight) * text)

    def train_stage(self, stage: int) -> Trained:
        """Freezes the image side for stage 2, and copies masks and token learner for the texts; stage 1 trains all."""
        if stage == 2 and self.text_tokens is self.image_tokens:
            self.text_tokens = copy.deepcopy(self.image_tokens)
        return super().train_stage(stage)

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns `{"epoch", "state_dict"}`; only stage 2 includes the masks and token learner of the texts.

        The state dict contains the visual tower under both of its names, with shared tensors. The tensors in `extras`
        are not included; the original code ignores absent names. Raises InputError for stage 1 if the network has
        separate masks and token learner for the texts.
        """
        if stage == 1 and self.text_tokens is not self.image_tokens:
            raise InputError(
                "family 'tgcir': a stage-1 file cannot contain the text masks and token learner that stage 2 trained; "
                "write the network as stage 2"
            )
        state = {f"backbone.{name}": tensor for name, tensor in copies(self.clip.state_dict(prefix="clip.")).items()}
        twin = {_TWIN + name.removeprefix(_TOWER): state[name] for name in state if name.startswith(_TOWER)}
        heads = KEYS[stage].to_published(copies(self._heads(stage)))
        return {"epoch": epoch, "state_dict": state | twin | heads}

    def extras(self, stage: int) -> dict[str, Tensor]:
        """Returns the tensors of the first stage's auxiliary losses: scalars and weights are ones, maps are zeros."""
        tokens = len(self.image_tokens.masks) + len(self.image_tokens.learners)
        scalars = {"local_weight": torch.ones(tokens)} | ({"loss_T": torch.ones(1)} if stage == 1 else {})
        gate = self.gate.state_dict()
        maps = {
            f"{name}.{part}": torch.zeros(tensor.shape)
            for name in ("t_remain_map", "t_replace_map")
            for part, tensor in gate.items()
        }
        return scalars | maps

    def _heads(self, stage: int) -> dict[str, Tensor]:
        """Returns the tensors of a stage's files except for CLIP and the temperature."""
        others = ("clip.", "temperature") if stage == 2 else ("clip.", "temperature", "text_tokens.")
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(others)}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network from TG-CIR's names.

        The text masks and token learner of a stage-1 file are dropped, because stage 2 starts with copies of the image
        ones. Raises InputError that lists missing, unexpected and misshapen tensors.
        """
        network, image_size = read_clip(_taken(state, _CLIP), f"{place}: {_CLIP}*", options)
        _check_vit(network, place)
        _check_twin(_taken(state, _TWIN), network, place)
        heads = {name: tensor.float() for name, tensor in KEYS[stage].to_ours(state, place).items()}
        composer = cls(network, image_size, *_token_counts(heads, network.text_projection.shape[1]))
        if stage == 2:
            composer.text_tokens = copy.deepcopy(composer.image_tokens)
        names = KEYS[stage].to_published
        check_tensors(names(heads), names(composer._heads(stage)), place)
        composer.load_state_dict(heads, strict=False, assign=True)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds the network from an open_clip ViT with quick GELU, or a folder in open_clip's form.

        torch's global random generator initialises the other modules. Raises InputError if the model cannot be loaded
        or is of another kind.
        """
        del options
        network, image_size = base_clip(model, tag)
        _check_vit(network, f"base model {model} (tag {tag})")
        return cls(network, image_size).eval()


def _unit_mean(tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch dim"]:
    """Returns the mean of the tokens, scaled to unit norm, in float32."""
    return F.normalize(tokens.float().mean(dim=1), dim=-1)


def _taken(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Removes the tensors under a prefix from the state, and returns them by the rest of their names."""
    return {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}


def _check_twin(twin: dict[str, Tensor], network: CLIP, place: str) -> None:
    """Raises InputError unless the tensors under both names of the tower are equal."""
    tower = network.visual.state_dict()
    check_tensors(twin, tower, f"{place}: {_TWIN}*")
    if differing := sorted(name for name in twin if not torch.equal(twin[name].float(), tower[name])):
        raise InputError(
            f"{place}: '{_TOWER}*' and '{_TWIN}*' are one tower under two names, but {len(differing)} of their "
            f"tensors differ: {differing[:10]}; check the file"
        )


def _token_counts(heads: dict[str, Tensor], dim: int) -> tuple[int, int]:
    """Returns the numbers of global and local tokens; the published ones if the tensors are absent, an error later."""
    masks = heads.get("image_tokens.masks")
    learners = {name.split(".")[2] for name in heads if name.startswith("image_tokens.learners.")}
    return (masks.numel() // dim if masks is not None else 0) or GLOBAL_TOKENS, len(learners) or LOCAL_TOKENS


def _check_vit(network: CLIP, place: str) -> None:
    if not isinstance(network.visual, VisionTransformer):
        raise InputError(f"{place}: its image tower is a ResNet; family 'tgcir' needs a ViT's tokens: choose a ViT")
