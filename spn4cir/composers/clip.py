"""CLIP4CIR: the query is the sum of the CLIP image and text features.

Source: Baldrati et al., "Conditioned and composed image retrieval combining and partially fine-tuning CLIP-based
features", CVPRW 2022; as fine-tuned by SPN4CIR.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from spn4cir.composers.protocol import ImageFeatures
from spn4cir.errors import InputError
from spn4cir.images import CLIP_MEAN, CLIP_STD, Preprocess
from spn4cir.losses import info_nce

_HEAD_WIDTH = 64
# Scalars that OpenAI's own files carry beside the weights.
_EXTRA = frozenset({"input_resolution", "context_length", "vocab_size"})
_NOT_QUICK = (
    "is no CLIP with quick GELU, which the published formats mean; "
    "choose an OpenAI tag or a '-quickgelu' architecture with a tag of its own"
)
_REQUIRED = (
    "text_projection",
    "positional_embedding",
    "token_embedding.weight",
    "ln_final.weight",
    "visual.conv1.weight",
)


class ClipComposer(nn.Module):
    """Composition by addition over a CLIP network (OpenAI's names, quick GELU, ViT or ResNet tower).

    Args:
        network: open_clip's CLIP.
        image_size: side of its input, in pixels.
    """

    family: ClassVar[str] = "clip"

    def __init__(self, network: CLIP, image_size: int) -> None:
        super().__init__()
        self.clip = network
        self.preprocess = Preprocess(image_size)
        self._tokenizer = open_clip.SimpleTokenizer(context_length=network.context_length)

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Reference: the CLIP feature (batch, dim), not normalised. Target: the same, unit norm."""
        features = self.clip.encode_image(images)
        return ImageFeatures(features, F.normalize(features.float(), dim=-1))

    def compose(self, reference: Float[Tensor, "batch dim"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """normalise(reference + text feature)."""
        tokens = self._tokenizer(list(texts)).to(reference.device)
        return F.normalize(reference.float() + self.clip.encode_text(tokens).float(), dim=-1)

    def score(
        self, queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "gallery dim"]
    ) -> Float[Tensor, "queries gallery"]:
        """Cosine: the dot product of unit-norm features."""
        return queries @ targets.T

    def contrast(
        self,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates dim"],
        labels: Int[Tensor, " batch"],
        temperature: float,
    ) -> Float[Tensor, ""]:
        """InfoNCE over the dot products."""
        return info_nce(queries, targets, labels, temperature)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, start and end included, before any cut."""
        return len(self._tokenizer.encode(text)) + 2

    @property
    def max_tokens(self) -> int:
        """The text tower's context length."""
        return int(self.clip.context_length)

    def train_stage(self, stage: int) -> list[nn.Parameter]:
        """Stage 1 trains both towers, stage 2 the text tower alone."""
        self.requires_grad_(True)
        if stage == 2:
            self.clip.visual.requires_grad_(False)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The image tower."""
        yield from self.clip.visual.state_dict().items()

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """`{"epoch", "CLIP"}` for stage 1, `{"epoch", "state_dict"}` with the prefix `clip.` for stage 2."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.clip.state_dict().items()}
        if stage == 1:
            return {"epoch": epoch, "CLIP": state}
        return {"epoch": epoch, "state_dict": {f"clip.{name}": tensor for name, tensor in state.items()}}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str) -> Self:
        """From OpenAI's names; both stages hold the same ones. Raises InputError that lists the names at fault."""
        del stage
        state = {name: tensor.float() for name, tensor in state.items() if name not in _EXTRA}
        missing = [name for name in _REQUIRED if name not in state]
        if missing:
            raise InputError(f"{place}: is no CLIP checkpoint: missing {missing}; check the file and the family")
        try:
            network, image_size = _network(state, place)
        except (ValueError, IndexError, TypeError, AssertionError, RuntimeError) as error:
            raise InputError(f"{place}: the sizes of its tensors make no CLIP ({error}); check the file") from None
        expected = network.state_dict()
        _check_names(state, expected, place)
        network.load_state_dict(state)
        return cls(network, image_size).eval()

    @classmethod
    def from_base(cls, model: str, pretrained: str | None) -> Self:
        """Over an open_clip model with quick GELU. Raises InputError where it cannot be had or is of another kind."""
        place = f"base model {model} (tag {pretrained})"
        tag = open_clip.get_pretrained_cfg(model.replace("/", "-"), pretrained) if pretrained else {}
        if tag and not tag.get("quick_gelu", False):
            raise InputError(f"{place}: {_NOT_QUICK}")
        try:
            # open_clip builds RN50x4 and others without quick GELU even for OpenAI's weights, and only warns.
            base = open_clip.create_model(
                model, pretrained=pretrained, require_pretrained=True, force_quick_gelu=bool(tag)
            ).eval()
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{place}: cannot be loaded: {reason}") from None
        if not isinstance(base, CLIP) or not any(isinstance(module, QuickGELU) for module in base.modules()):
            raise InputError(f"{place}: {_NOT_QUICK}")
        composer = cls.from_state(base.state_dict(), 1, model)
        _check_same(composer, base, place)
        return composer


def _check_same(composer: ClipComposer, base: CLIP, place: str) -> None:
    """Raises InputError unless the composer sees images as `base` does and computes the same features.

    Names and shapes do not tell everything: pooling, the norms' places or the text's mask may differ.
    """
    settings = open_clip.get_model_preprocess_cfg(base)
    for name, wanted in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
        if tuple(settings.get(name, wanted)) != wanted:
            raise InputError(
                f"{place}: wants images of {name} {tuple(settings[name])}, CLIP's is {wanted}; choose another"
            )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, composer.preprocess.size, composer.preprocess.size, generator=generator)
    tokens = torch.randint(1, base.vocab_size, (1, composer.max_tokens), generator=generator)
    try:
        with torch.inference_mode():
            theirs, ours = ((n.encode_image(images), n.encode_text(tokens)) for n in (base, composer.clip))
        same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(theirs, ours, strict=True))
    except (RuntimeError, AssertionError):
        same = False
    if not same:
        raise InputError(
            f"{place}: computes other features than OpenAI's CLIP with the same weights (pooling, norms or mask "
            "differ), and the published formats mean the latter; choose a model of OpenAI's architecture"
        )


def _check_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: str) -> None:
    """Raises InputError unless both hold the same names with the same shapes."""
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    faults = [
        f"{what} {names}" for what, names in (("missing", missing), ("unexpected", extra), ("shape", shapes)) if names
    ]
    if faults:
        raise InputError(f"{place}: does not fit the network its sizes call for: {'; '.join(faults)}")


def _network(state: Mapping[str, Tensor], place: str) -> tuple[CLIP, int]:
    """A CLIP of the sizes that the shapes tell, and the side of its input in pixels."""
    vision, image_size = (_vit if "visual.proj" in state else _resnet)(state, place)
    width = state["ln_final.weight"].shape[0]
    text = CLIPTextCfg(
        context_length=state["positional_embedding"].shape[0],
        vocab_size=state["token_embedding.weight"].shape[0],
        width=width,
        heads=width // _HEAD_WIDTH,
        layers=_count(state, "transformer.resblocks."),
    )
    return CLIP(state["text_projection"].shape[1], vision, text, quick_gelu=True), image_size


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules stand under a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _vit(state: Mapping[str, Tensor], place: str) -> tuple[CLIPVisionCfg, int]:
    if "visual.positional_embedding" not in state:
        raise InputError(f"{place}: is no CLIP checkpoint: missing ['visual.positional_embedding']")
    patch = state["visual.conv1.weight"].shape[-1]
    image_size = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5) * patch
    vision = CLIPVisionCfg(
        layers=_count(state, "visual.transformer.resblocks."),
        width=state["visual.conv1.weight"].shape[0],
        head_width=_HEAD_WIDTH,
        patch_size=patch,
        image_size=image_size,
    )
    return vision, image_size


def _resnet(state: Mapping[str, Tensor], place: str) -> tuple[CLIPVisionCfg, int]:
    position = state.get("visual.attnpool.positional_embedding")
    first = state.get("visual.layer1.0.conv1.weight")
    if position is None or first is None:
        raise InputError(f"{place}: is no CLIP checkpoint: neither 'visual.proj' (ViT) nor 'visual.attnpool' (ResNet)")
    image_size = round((position.shape[0] - 1) ** 0.5) * 32
    layers = tuple(_count(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    return CLIPVisionCfg(layers=layers, width=first.shape[0], head_width=_HEAD_WIDTH, image_size=image_size), image_size
