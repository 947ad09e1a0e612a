"""Composition by addition over CLIP: the supervised recipe of CLIP4CIR, and zero-shot recipes with the same network."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIP
from torch import Tensor

from spn4cir.composers.base import copies
from spn4cir.composers.openai_clip import ClipModule, base_clip, read_clip
from spn4cir.composers.protocol import PUBLISHED, ImageFeatures, Options
from spn4cir.images.preprocess import Preprocess


class AdditionComposer(ClipModule):
    """Composition by addition over a CLIP network (OpenAI's names, quick GELU, ViT or ResNet tower).

    Args:
        network: an open_clip CLIP model.
        image_size: side of its square input, in pixels.
    """

    family: ClassVar[str] = "clip"
    frozen: ClassVar[tuple[str, ...]] = ("clip.visual",)
    pretrained: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(self, network: CLIP, image_size: int) -> None:
        super().__init__(network, Preprocess(image_size))

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns the CLIP feature (batch, dim): not normalised as the reference, unit norm as the target."""
        features = self.clip.encode_image(images)
        return ImageFeatures(features, F.normalize(features.float(), dim=-1))

    def compose(self, reference: Float[Tensor, "batch dim"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns normalise(reference + text feature)."""
        said = self.clip.encode_text(self.tokens(texts, reference.device))
        return F.normalize(reference.float() + said.float(), dim=-1)

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """Returns `{"epoch", "CLIP"}` for stage 1, `{"epoch", "state_dict"}` with the prefix `clip.` for stage 2."""
        state = copies(self.clip.state_dict())
        if stage == 1:
            return {"epoch": epoch, "CLIP": state}
        return {"epoch": epoch, "state_dict": {f"clip.{name}": tensor for name, tensor in state.items()}}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """Builds the network from OpenAI's names, which both stages use.

        Raises InputError that lists missing, unexpected and misshapen tensors.
        """
        del stage
        return cls(*read_clip(state, place, options)).eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Builds the network from an open_clip model with quick GELU, or a folder in open_clip's form.

        Raises InputError if the model cannot be loaded or is of another kind.
        """
        del options
        return cls(*base_clip(model, tag)).eval()


class ClipComposer(AdditionComposer):
    """CLIP4CIR: stage 1 trains on annotated triplets."""

    backbone: ClassVar[str] = "RN50x4"


class ZsComposer(AdditionComposer):
    """Zero-shot: both stages train on triplets that are generated from the data set's own images."""

    backbone: ClassVar[str] = "ViT-L-14"


class ZsPoolComposer(AdditionComposer):
    """Zero-shot: both stages train on triplets that are generated from the images of the data set's pool (CC3M)."""

    backbone: ClassVar[str] = "ViT-L-14"
