"""What families share: the temperature, and unit-norm features that are compared by dot products."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spn4cir.composers.protocol import PUBLISHED, Options, Sizes, Trained
from spn4cir.losses import info_nce
from spn4cir.weights import check_tensors


class ComposerModule(nn.Module):
    """A network with a temperature whose targets are one unit-norm vector an image.

    A family without files of its own elsewhere needs no more than its features and its composition: it is trained by
    the two lists of modules below, and its files hold its tensors under the names that they have here.

    Attributes:
        frozen: the modules that decide the features of images; stage 2 leaves them as they are.
        pretrained: the modules that may have a learning rate of their own.
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

    def train_stage(self, stage: int) -> Trained:
        """Stage 1 trains everything, stage 2 all but `frozen`; the temperature is the training loop's."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name != "temperature")
        for name in self.frozen if stage == 2 else ():
            self.get_submodule(name).requires_grad_(False)
        backbone = trainable([self.get_submodule(name) for name in self.pretrained])
        own = set(backbone) | {self.temperature}
        return Trained(backbone, [parameter for parameter in trainable([self]) if parameter not in own])

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Those of the modules in `frozen`."""
        for name in self.frozen:
            yield from self.get_submodule(name).state_dict(prefix=f"{name}.").items()

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """`{"epoch", "FAMILY_stage1"}` or `{"epoch", "FAMILY_stage2"}`, names as they are here."""
        return {"epoch": epoch, f"{self.family}_stage{stage}": copies(self.state_dict())}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """From those names. Raises InputError that lists the names at fault."""
        del stage, options
        composer = cls()
        check_tensors(state, composer.state_dict(), place)
        composer.load_state_dict(state)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Nothing is pretrained: torch's global seed draws the network."""
        del model, tag, options
        return cls().eval()

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


def copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copied to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
