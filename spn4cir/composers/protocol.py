"""What every model family offers. Nothing outside a family's own file asks which family it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.images.preprocess import Preprocess

DEFAULT_TOKENIZER = "bert-base-uncased"


class ImageFeatures(NamedTuple):
    """Both features of a batch of images, from one backbone pass.

    Attributes:
        reference: what `compose` needs of a reference image, (batch, ...); clip: (batch, dim), not normalised.
        target: what `score` needs of a candidate, (batch, ...); clip: (batch, dim), unit norm.
    """

    reference: Tensor
    target: Tensor


class Trained(NamedTuple):
    """The parameters that a stage trains; the temperature is neither.

    Attributes:
        backbone: those of the pretrained towers, which may have a learning rate of their own.
        heads: the others.
    """

    backbone: list[nn.Parameter]
    heads: list[nn.Parameter]


@dataclass(frozen=True)
class Options:
    """What a state dict does not tell; None takes the family's published value.

    Attributes:
        tokenizer: BERT's, a hub id or a folder; None: the vocabulary that the file carries, else `DEFAULT_TOKENIZER`.
        revision: of the tokenizer's hub repository.
        vocabulary: the words of a BERT tokenizer in the order of their ids, as our own files carry them.
        vision_head_width: width of an attention head of the image tower.
        text_head_width: the same of the text tower.
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
        kind: what it is, as in `ViT`.
        width: of its tokens; of a ResNet, of its first stage.
        layers: how many; of a ResNet, of each stage.
        heads: of an attention, as assumed: no state dict tells them.
    """

    kind: str
    width: int
    layers: int | tuple[int, ...]
    heads: int = field(compare=False)


@dataclass(frozen=True)
class Sizes:
    """What a network is built of; two are equal where the same files fit.

    Attributes:
        image_size: side of the input, in pixels.
        patch: side of a ViT's patch, in pixels; None for a ResNet.
        image: the image tower.
        text: the text tower, or what reads the text.
        positions: how many tokens the text tower has positions for.
        words: number of its word embeddings.
        embedding: shape of a target.
    """

    image_size: int
    patch: int | None
    image: Tower
    text: Tower
    positions: int
    words: int
    embedding: tuple[int, ...]


class Composer(Protocol):
    """A trained network that turns (reference, text) into a query and images into candidates.

    Attributes:
        family: its name in the registry; recipes of one network share it.
        preprocess: from a decoded image to the network's input.
        temperature: tau, a scalar; the training loop sets it and says whether it is learned.
        backbone: the name of the network that the published files hold.
        parts: the towers, each by what the names of its parameters begin with; the first that fits counts.
    """

    family: ClassVar[str]
    backbone: ClassVar[str]
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    preprocess: Preprocess
    temperature: nn.Parameter

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Reference and target features of images, in one backbone pass."""

    def compose(self, reference: Tensor, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Unit-norm queries of reference features and modification texts."""

    def score(self, queries: Float[Tensor, "queries dim"], targets: Tensor) -> Float[Tensor, "queries gallery"]:
        """Similarity of every query with every candidate."""

    def contrast(
        self,
        queries: Float[Tensor, "batch dim"],
        targets: Tensor,
        labels: Int[Tensor, " batch"],
        temperature: float | Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """InfoNCE over `score(queries, targets)`; `labels` are rows of `targets`."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, start and end included, before any cut."""

    @property
    def max_tokens(self) -> int:
        """How many tokens the text tower reads; what goes beyond is cut."""

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words of a tokenizer that no package ships, for the files we write; None where one does."""

    def train_stage(self, stage: int) -> Trained:
        """Freezes what the stage freezes and makes the copies that stage 2 trains; returns what is trained.

        The network may be of stage 1 or already of stage 2, whose copies are then kept.
        """

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that stage 2 leaves as they are: those that decide what a bank holds."""

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """The weights in the published container and names of the stage, on the CPU."""

    def extras(self, stage: int) -> dict[str, Tensor]:
        """What the original's files of the stage hold besides, by name without the container's prefix.

        Neither queries nor targets read it, and this network does not have it: the values are filled in.
        """

    def sizes(self) -> Sizes | None:
        """What the network is built of; None where a family does not tell."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Its parameters by name, as of any torch module."""

    def state_dict(self) -> dict[str, Any]:
        """The module's tensors by name, as of any torch module."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Takes up tensors by name, as any torch module does."""

    def modules(self) -> Iterator[nn.Module]:
        """Its parts, as of any torch module."""

    def train(self, mode: bool = True) -> Self:
        """Dropout on or off, as of any torch module."""

    def to(self, device: torch.device) -> Self:
        """Moves the module, as any torch module does."""

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """The network of a published state dict, sizes read off its shapes, in float32 and eval mode.

        Args:
            state: published names, the container's prefix removed; consumed, so that no second copy need be held.
            stage: whose container it came in, 1 or 2.
            place: the file, for messages.
            options: what the state dict does not tell.

        Raises:
            InputError: lists missing and unexpected names, and shapes that do not fit.
        """

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """The sizes of a base model, or of `backbone`, by its name; None where only its files tell."""

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """The untrained composition over a base model.

        Args:
            model: a folder, or a name that open_clip (clip, tgcir) or the hub (blip, blip2) knows.
            tag: open_clip's pretraining tag, or the hub's revision.
            options: the tokenizer; head widths stand in the model's own configuration.

        Raises:
            InputError: the model cannot be had or is of another kind.
        """
