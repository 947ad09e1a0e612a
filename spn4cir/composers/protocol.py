"""What every model family offers. Nothing outside a family's own file asks which family it is."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.images import Preprocess


class ImageFeatures(NamedTuple):
    """Both features of a batch of images, from one backbone pass.

    Attributes:
        reference: what `compose` needs of a reference image, (batch, ...); clip: (batch, dim), not normalised.
        target: what `score` needs of a candidate, (batch, ...); clip: (batch, dim), unit norm.
    """

    reference: Tensor
    target: Tensor


class Composer(Protocol):
    """A trained network that turns (reference, text) into a query and images into candidates.

    Attributes:
        family: its name in the registry.
        preprocess: from a decoded image to the network's input.
    """

    family: ClassVar[str]
    preprocess: Preprocess

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Reference and target features of images, in one backbone pass."""

    def compose(self, reference: Tensor, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Unit-norm queries of reference features and modification texts."""

    def score(self, queries: Float[Tensor, "queries dim"], targets: Tensor) -> Float[Tensor, "queries gallery"]:
        """Similarity of every query with every candidate."""

    def contrast(
        self, queries: Float[Tensor, "batch dim"], targets: Tensor, labels: Int[Tensor, " batch"], temperature: float
    ) -> Float[Tensor, ""]:
        """InfoNCE over `score(queries, targets)`; `labels` are rows of `targets`."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, start and end included, before any cut."""

    @property
    def max_tokens(self) -> int:
        """How many tokens the text tower reads; what goes beyond is cut."""

    def train_stage(self, stage: int) -> list[nn.Parameter]:
        """Freezes what the stage freezes (1: nothing or the image side, 2: the image side); returns the rest."""

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that stage 2 leaves as they are: those that decide what a bank holds."""

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """The weights in the published container of the stage, on the CPU."""

    def state_dict(self) -> dict[str, Any]:
        """The module's tensors by name, as of any torch module."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Takes up tensors by name, as any torch module does."""

    def to(self, device: torch.device) -> Self:
        """Moves the module, as any torch module does."""

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str) -> Self:
        """The network of a published state dict, sizes read off its shapes, in float32 and eval mode.

        Raises InputError that lists missing and unexpected names.
        """

    @classmethod
    def from_base(cls, model: str, pretrained: str | None) -> Self:
        """The untrained composition over a base model: open_clip architecture and tag, or a `local-dir:` folder."""
