"""What families share: the temperature, and unit-norm features that are compared by dot products."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.composers.protocol import Sizes
from spn4cir.losses import info_nce


class ComposerModule(nn.Module):
    """A network with a temperature whose targets are one unit-norm vector an image."""

    backbone: ClassVar[str] = ""
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.01), requires_grad=False)

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
        temperature: float | Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """InfoNCE over the dot products."""
        return info_nce(queries, targets, labels, temperature)

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """None: the tokenizer ships with a package."""
        return None

    def extras(self, stage: int) -> dict[str, Tensor]:
        """None: the original's files hold what the network has."""
        del stage
        return {}

    def sizes(self) -> Sizes | None:
        """None: the family does not tell."""
        return None

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """None: only the model's files tell."""
        del model
        return None


def trainable(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The parameters of modules that ask for gradients, each once."""
    found = {parameter: None for module in modules for parameter in module.parameters() if parameter.requires_grad}
    return list(found)
