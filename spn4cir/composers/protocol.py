"""The protocol of the model families. Code outside a family's own file does not depend on which family it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.images.preprocess import Preprocess
from spn4cir.losses import INFO_NCE, Contrast

DEFAULT_TOKENIZER = "bert-base-uncased"


class ImageFeatures(NamedTuple):
    """Reference and target features of a batch of images, from one backbone pass.

    Attributes:
        reference: features that `compose` reads, (batch, ...); clip: (batch, dim), not normalised.
        target: features that `score` reads, (batch, ...); clip: (batch, dim), unit norm.
    """

    reference: Tensor
    target: Tensor


class Trained(NamedTuple):
    """The parameters that a stage trains, without the temperature.

    Attributes:
        backbone: parameters of the pretrained towers, which may have a separate learning rate.
        heads: all other parameters.
    """

    backbone: list[nn.Parameter]
    heads: list[nn.Parameter]


@dataclass(frozen=True)
class Options:
    """Values that a state dict does not contain; None selects the family's published value.

    Attributes:
        tokenizer: hub id or folder of a BERT tokenizer; None selects the vocabulary in the file, else
            `DEFAULT_TOKENIZER`.
        revision: branch, tag or commit of the tokenizer's hub repository.
        vocabulary: words of a BERT tokenizer in the order of their ids, as files of this package contain them.
        vision_head_width: width of an attention head of the image tower.
        text_head_width: width of an attention head of the text tower.
    """

    tokenizer: str | None = None
    revision: str | None = None
    vocabulary: tuple[str, ...] | None = None
    vision_head_width: int | None = None
    text_head_width: int | None = None


PUBLISHED = Options()


@dataclass(frozen=True)
class Tower:
    """The sizes of an image or a text tower.

    Attributes:
        kind: kind of the tower, such as `ViT`.
        width: width of its tokens; for a ResNet, the width of its first stage.
        layers: number of layers; for a ResNet, the number in each stage.
        heads: assumed number of attention heads; state dicts do not contain it, and comparisons ignore it.
    """

    kind: str
    width: int
    layers: int | tuple[int, ...]
    heads: int = field(compare=False)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network; two networks have equal sizes if the same files fit both.

    Attributes:
        image_size: side of the square input, in pixels.
        patch: side of a ViT's patch, in pixels; None for a ResNet.
        image: the image tower.
        text: the text tower, or the module that reads the text.
        positions: number of token positions of the text tower.
        words: number of word embeddings of the text tower.
        embedding: shape of the target feature of one image.
    """

    image_size: int
    patch: int | None
    image: Tower
    text: Tower
    positions: int
    words: int
    embedding: tuple[int, ...]


class Composer(Protocol):
    """A network that encodes a reference image with a text as a query, and images as candidates.

    Attributes:
        family: name of the family; recipes that train the same network share it.
        preprocess: converts a decoded image to the network's input.
        temperature: tau, a scalar; the training loop sets it and decides whether it is trained.
        backbone: name of the network in the published files.
        parts: prefixes of the parameter names of each tower; the first match applies.
    """

    family: ClassVar[str]
    backbone: ClassVar[str]
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    preprocess: Preprocess
    temperature: nn.Parameter

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns the reference and target features of images, from one backbone pass."""

    def compose(self, reference: Tensor, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries for reference features and modification texts."""

    def score(self, queries: Float[Tensor, "queries dim"], targets: Tensor) -> Float[Tensor, "queries gallery"]:
        """Returns the similarity of every query with every candidate."""

    def contrast(
        self,
        queries: Float[Tensor, "batch dim"],
        targets: Tensor,
        labels: Int[Tensor, " batch"],
        temperature: float | Float[Tensor, ""],
        contrast: Contrast = INFO_NCE,
    ) -> Float[Tensor, ""]:
        """Returns the InfoNCE loss over `score(queries, targets)`, or that of `contrast`.

        `labels` are rows of `targets`.
        """

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a text before truncation, start and end included."""

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens that the text tower reads; longer texts are truncated."""

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words of the tokenizer, stored in files of this package; None if a library contains them."""

    def train_stage(self, stage: int) -> Trained:
        """Freezes the parameters that the stage does not train, and makes the copies that stage 2 trains.

        If the network is already of stage 2, its copies are kept.

        Returns:
            The parameters that the stage trains.
        """

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the names and tensors that stage 2 does not train; they determine the features in a bank."""

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns the content of a published file of the stage: container, names and weights, on the CPU."""

    def extras(self, stage: int) -> dict[str, Tensor]:
        """Returns further tensors of the original's files of the stage, by name without the container's prefix.

        This network does not have these tensors, and neither queries nor targets depend on them; their values are
        fixed.
        """

    def sizes(self) -> Sizes | None:
        """Returns the sizes of the network, or None if the family does not report them."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the names and parameters; see `torch.nn.Module.named_parameters`."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the tensors by name; see `torch.nn.Module.state_dict`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Copies tensors into the network by name; see `torch.nn.Module.load_state_dict`."""

    def modules(self) -> Iterator[nn.Module]:
        """Yields the modules of the network; see `torch.nn.Module.modules`."""

    def train(self, mode: bool = True) -> Self:
        """Turns dropout on or off; see `torch.nn.Module.train`."""

    def to(self, device: torch.device) -> Self:
        """Moves the network to a device; see `torch.nn.Module.to`."""

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network of a published state dict in float32 and eval mode, with sizes read from its shapes.

        Args:
            state: tensors by published name, without the container's prefix. The dict may be emptied, so that there
                is no second copy of the weights.
            stage: stage of the file, 1 or 2.
            place: the file, for messages.
            options: values that the state dict does not contain.

        Raises:
            InputError: lists missing, unexpected and misshapen tensors.
        """

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """Returns the sizes of a base model or of `backbone` by its name, or None if only its files contain them."""

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds the network over a pretrained base model, with an untrained composition.

        Args:
            model: a folder, or a name that open_clip (clip, tgcir) or the hub (blip, blip2) knows.
            tag: open_clip's pretraining tag, or the hub's revision.
            options: the tokenizer; the model's own configuration contains the head widths.

        Raises:
            InputError: the model cannot be loaded or is of another kind.
        """
