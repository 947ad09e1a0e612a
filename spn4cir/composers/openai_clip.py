"""CLIP with OpenAI's names: networks from state dicts, with sizes read from the shapes, and base models."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import open_clip
import torch
from jaxtyping import Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor

from spn4cir.composers.base import ComposerModule
from spn4cir.composers.protocol import Options, Sizes, Tower
from spn4cir.composers.state_dicts import count_modules, heads
from spn4cir.errors import InputError, first_line
from spn4cir.images.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from spn4cir.weights import HEAD_WIDTH, check_tensors

# Scalars that OpenAI's own files contain in addition to the weights.
_EXTRA = frozenset({"input_resolution", "context_length", "vocab_size"})
_NOT_QUICK = (
    "is not a CLIP with quick GELU, which the published formats require; "
    "choose an OpenAI tag or a '-quickgelu' architecture with one of its tags"
)
# Ratio of the width of a ResNet's attention pool to the width of its first stage.
_POOLED = 32
_REQUIRED = (
    "text_projection",
    "positional_embedding",
    "token_embedding.weight",
    "ln_final.weight",
    "visual.conv1.weight",
)


class ClipModule(ComposerModule):
    """Base class of the families over a CLIP network: contains the network and tokenizes texts for it.

    Args:
        network: an open_clip CLIP model.
        preprocess: converts a decoded image to the network's input.
    """

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": ("clip.visual.",), "text": ("clip.",)}

    def __init__(self, network: CLIP, preprocess: Preprocess) -> None:
        super().__init__()
        self.clip = network
        self.preprocess = preprocess

    def tokens(self, texts: Sequence[str], device: torch.device) -> Int[Tensor, "texts context"]:
        """Returns token ids of the texts, truncated or padded to the context length."""
        ids: Tensor = _tokenizer()(list(texts), context_length=self.max_tokens)
        return ids.to(device)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a text before truncation, start and end included."""
        return len(_tokenizer().encode(text)) + 2

    @property
    def max_tokens(self) -> int:
        """Context length of the text tower."""
        return int(self.clip.context_length)

    def sizes(self) -> Sizes:
        """Returns the sizes of the modules."""
        visual, blocks = self.clip.visual, self.clip.transformer.resblocks
        width, dim = self.clip.text_projection.shape
        return Sizes(
            image_size=self.preprocess.size,
            patch=visual.conv1.kernel_size[0] if isinstance(visual, VisionTransformer) else None,
            image=_image_tower(visual),
            text=Tower("transformer", width, len(blocks), blocks[0].attn.num_heads),
            positions=self.clip.context_length,
            words=self.clip.vocab_size,
            embedding=(dim,),
        )

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """Returns the sizes in open_clip's configuration of a model, or None for a model that is not OpenAI's CLIP."""
        config = open_clip.get_model_config(model)
        return None if config is None else _configured_sizes(config)


@cache
def _tokenizer() -> open_clip.SimpleTokenizer:
    """Returns CLIP's tokenizer; cached, because unpacking its vocabulary takes time."""
    return open_clip.SimpleTokenizer()


def read_clip(state: dict[str, Tensor], place: str, options: Options) -> tuple[CLIP, int]:
    """Builds the network of a state dict with OpenAI's names.

    The tensors of the state dict become its parameters, so that there is no second copy of the weights.

    Args:
        state: tensors by name.
        place: the file, for messages.
        options: the head widths.

    Returns:
        The network in float32 and eval mode, and the side of its input in pixels.

    Raises:
        InputError: lists missing, unexpected and misshapen tensors.
    """
    for name in list(state):
        if name in _EXTRA:
            del state[name]
        elif state[name].is_floating_point():
            state[name] = state[name].float()
    missing = [name for name in _REQUIRED if name not in state]
    if missing:
        raise InputError(f"{place}: is not a CLIP checkpoint: missing {missing}; check the file and the family")
    try:
        network, image_size = _network(state, place, options)
    except (ValueError, IndexError, TypeError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"{place}: the sizes of its tensors fit no CLIP ({error}); check the file") from None
    check_tensors(state, network.state_dict(), place)
    network.load_state_dict(state, assign=True)
    return network.eval(), image_size


def base_clip(model: str, tag: str | None) -> tuple[CLIP, int]:
    """Loads an open_clip model with quick GELU.

    Args:
        model: a name that open_clip knows, or a folder in open_clip's form.
        tag: pretraining tag of open_clip; None for a folder.

    Returns:
        The network, and the side of its input in pixels.

    Raises:
        InputError: the model cannot be loaded or is of another kind.
    """
    place = f"base model {model} (tag {tag})"
    name = f"local-dir:{model}" if Path(model).is_dir() else model
    known = open_clip.get_pretrained_cfg(name.replace("/", "-"), tag) if tag else {}
    if known and not known.get("quick_gelu", False):
        raise InputError(f"{place}: {_NOT_QUICK}")
    # open_clip builds RN50x4 and others without quick GELU, even for OpenAI's weights, with only a warning.
    return openai_form(create_open_clip(place, name, pretrained=tag, force_quick_gelu=bool(known)), place)


def create_open_clip(place: str, name: str, **options: Any) -> torch.nn.Module:
    """Creates an open_clip model with its weights, in eval mode.

    Args:
        place: the model, for messages.
        name: a name that `open_clip.create_model` takes.
        options: further arguments of `open_clip.create_model`.

    Raises:
        InputError: the model cannot be created, or its weights cannot be loaded.
    """
    try:
        model: torch.nn.Module = open_clip.create_model(name, require_pretrained=True, **options)
    except Exception as error:  # the libraries raise many kinds of errors for a damaged model
        raise InputError(f"{place}: cannot be loaded: {first_line(error)}") from None
    return model.eval()


def openai_form(base: torch.nn.Module, place: str) -> tuple[CLIP, int]:
    """Builds a CLIP with quick GELU from the tensors of an open_clip model, as the published formats describe it.

    Args:
        base: the open_clip model.
        place: the model, for messages.

    Returns:
        The network, and the side of its input in pixels.

    Raises:
        InputError: the model is of another kind, or the network would compute other features.
    """
    if not isinstance(base, CLIP) or not any(isinstance(module, QuickGELU) for module in base.modules()):
        raise InputError(f"{place}: {_NOT_QUICK}")
    network, image_size = read_clip(base.state_dict(), place, Options())
    _check_same(network, image_size, base, place)
    return network, image_size


def _check_same(network: CLIP, image_size: int, base: CLIP, place: str) -> None:
    """Raises InputError unless the network normalises images as `base` does and computes the same features.

    Equal names and shapes are not sufficient: the pooling, the positions of the norms or the text mask may differ.
    """
    settings = open_clip.get_model_preprocess_cfg(base)
    for name, wanted in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
        if tuple(settings.get(name, wanted)) != wanted:
            raise InputError(
                f"{place}: expects images of {name} {tuple(settings[name])}, CLIP's is {wanted}; choose another model"
            )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, image_size, image_size, generator=generator)
    tokens = torch.randint(1, base.vocab_size, (1, network.context_length), generator=generator)
    try:
        with torch.inference_mode():
            theirs, ours = ((n.encode_image(images), n.encode_text(tokens)) for n in (base, network))
        same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(theirs, ours, strict=True))
    except (RuntimeError, AssertionError):
        same = False
    if not same:
        raise InputError(
            f"{place}: computes other features than OpenAI's CLIP with the same weights (head width, which is "
            f"{HEAD_WIDTH}, pooling, norms or mask differ), which the published formats require; choose a model of "
            "OpenAI's architecture"
        )


def _network(state: Mapping[str, Tensor], place: str, options: Options) -> tuple[CLIP, int]:
    """Returns a CLIP of the sizes that the shapes imply, on the meta device, and the side of its input in pixels."""
    head_width = options.vision_head_width or HEAD_WIDTH
    vision, image_size = (_vit if "visual.proj" in state else _resnet)(state, place, head_width)
    width = state["ln_final.weight"].shape[0]
    text = CLIPTextCfg(
        context_length=state["positional_embedding"].shape[0],
        vocab_size=state["token_embedding.weight"].shape[0],
        width=width,
        heads=heads(width, options.text_head_width or HEAD_WIDTH),
        layers=count_modules(state, "transformer.resblocks."),
    )
    with torch.device("meta"):  # skips the initialisation of weights that are replaced
        network = CLIP(state["text_projection"].shape[1], vision, text, quick_gelu=True)
    # The only tensor that no file contains.
    network.attn_mask = torch.full((text.context_length, text.context_length), -torch.inf).triu(1)
    return network, image_size


def _vit(state: Mapping[str, Tensor], place: str, head_width: int) -> tuple[CLIPVisionCfg, int]:
    if "visual.positional_embedding" not in state:
        raise InputError(
            f"{place}: is not a CLIP checkpoint: missing ['visual.positional_embedding']; check the file and the family"
        )
    patch = state["visual.conv1.weight"].shape[-1]
    image_size = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5) * patch
    width = state["visual.conv1.weight"].shape[0]
    heads(width, head_width)  # raises; open_clip would round
    vision = CLIPVisionCfg(
        layers=count_modules(state, "visual.transformer.resblocks."),
        width=width,
        head_width=head_width,
        patch_size=patch,
        image_size=image_size,
    )
    return vision, image_size


def _resnet(state: Mapping[str, Tensor], place: str, head_width: int) -> tuple[CLIPVisionCfg, int]:
    position = state.get("visual.attnpool.positional_embedding")
    first = state.get("visual.layer1.0.conv1.weight")
    if position is None or first is None:
        raise InputError(
            f"{place}: is not a CLIP checkpoint: contains neither 'visual.proj' (ViT) nor 'visual.attnpool' (ResNet); "
            "check the file and the family"
        )
    image_size = round((position.shape[0] - 1) ** 0.5) * 32
    layers = tuple(count_modules(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    heads(_POOLED * first.shape[0], head_width)
    return CLIPVisionCfg(layers=layers, width=first.shape[0], head_width=head_width, image_size=image_size), image_size


def _image_tower(visual: Any) -> Tower:
    if isinstance(visual, VisionTransformer):
        blocks = visual.transformer.resblocks
        return Tower("ViT", visual.conv1.out_channels, len(blocks), blocks[0].attn.num_heads)
    stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    return Tower("ResNet", visual.layer1[0].conv1.out_channels, tuple(map(len, stages)), visual.attnpool.num_heads)


def _configured_sizes(config: dict[str, Any]) -> Sizes | None:
    """Returns the sizes in open_clip's configuration of a model, or None if it is not OpenAI's kind of CLIP."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "patch_size" not in vision or "width" not in text:
        return None
    width, layers = vision["width"], vision["layers"]
    is_resnet = isinstance(layers, list)
    pooled = _POOLED * width if is_resnet else width
    return Sizes(
        image_size=vision["image_size"],
        patch=vision["patch_size"],
        image=Tower(
            "ResNet" if is_resnet else "ViT",
            width,
            tuple(layers) if is_resnet else layers,
            pooled // vision.get("head_width", HEAD_WIDTH),
        ),
        text=Tower("transformer", text["width"], text["layers"], text["heads"]),
        positions=text["context_length"],
        words=text["vocab_size"],
        embedding=(config["embed_dim"],),
    )
