"""Base class of the families: the temperature, and unit-norm features that are compared by dot products."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.composers.protocol import PUBLISHED, Options, Sizes, Trained
from spn4cir.losses import INFO_NCE, Contrast, info_nce
from spn4cir.weights import check_tensors


class ComposerModule(nn.Module):
    """A network with a temperature, whose target feature is one unit-norm vector per image.

    A family without a published file format only has to define its features and its composition. The two lists of
    modules below control its training, and its files contain its tensors under the names of this module.

    Attributes:
        frozen: names of the modules that compute image features; stage 2 does not train them.
        pretrained: names of the modules that may have a separate learning rate.
    """

    family: ClassVar[str]
    backbone: ClassVar[str] = ""
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    frozen: ClassVar[tuple[str, ...]] = ()
    pretrained: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.01), requires_grad=False)

    def score(
        self, queries: Float[Tensor, "queries dim"], targets: Float[Tensor, "gallery dim"]
    ) -> Float[Tensor, "queries gallery"]:
        """Returns the cosine similarity: the dot product of unit-norm features."""
        return queries @ targets.T

    def contrast(
        self,
        queries: Float[Tensor, "batch dim"],
        targets: Float[Tensor, "candidates dim"],
        labels: Int[Tensor, " batch"],
        temperature: float | Float[Tensor, ""],
        contrast: Contrast = INFO_NCE,
    ) -> Float[Tensor, ""]:
        """Returns the InfoNCE loss over the dot products, or that of `contrast`."""
        return info_nce(queries, targets, labels, temperature, contrast)

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """None, because the tokenizer is part of a package."""
        return None

    def train_stage(self, stage: int) -> Trained:
        """Freezes the modules in `frozen` for stage 2; stage 1 trains all of them.

        The temperature is not among the returned parameters, because the training loop sets it.
        """
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name != "temperature")
        for name in self.frozen if stage == 2 else ():
            self.get_submodule(name).requires_grad_(False)
        backbone = trainable([self.get_submodule(name) for name in self.pretrained])
        own = set(backbone) | {self.temperature}
        return Trained(backbone, [parameter for parameter in trainable([self]) if parameter not in own])

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the names and tensors of the modules in `frozen`."""
        for name in self.frozen:
            yield from self.get_submodule(name).state_dict(prefix=f"{name}.").items()

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns `{"epoch", "FAMILY_stage1"}` or `{"epoch", "FAMILY_stage2"}`, with the names of this module."""
        return {"epoch": epoch, f"{self.family}_stage{stage}": copies(self.state_dict())}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network from the names that `published` writes. Raises InputError that lists wrong names."""
        del stage, options
        composer = cls()
        check_tensors(state, composer.state_dict(), place)
        composer.load_state_dict(state)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds a network without pretrained weights; torch's global random generator initialises it."""
        del model, tag, options
        return cls().eval()

    def extras(self, stage: int) -> dict[str, Tensor]:
        """Returns an empty dict, because the original files contain no other tensors."""
        del stage
        return {}

    def sizes(self) -> Sizes | None:
        """Returns None, because the family does not report its sizes."""
        return None

    @classmethod
    def base_sizes(cls, model: str) -> Sizes | None:
        """Returns None, because only the model's files contain its sizes."""
        del model
        return None


def trainable(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Returns the parameters of modules that require gradients, each once."""
    found = {parameter: None for module in modules for parameter in module.parameters() if parameter.requires_grad}
    return list(found)


def copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies of the tensors on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
