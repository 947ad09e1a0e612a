"""A toy family: an image is its mean colour, a text the sum of its words' vectors."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self
from zlib import crc32

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spn4cir.composers.base import ComposerModule, trainable
from spn4cir.composers.protocol import PUBLISHED, ImageFeatures, Options, Trained
from spn4cir.images import Preprocess
from spn4cir.keymaps import check_names

DIM, BUCKETS, MAX_WORDS = 8, 64, 32


class ToyComposer(ComposerModule):
    """Mean colour plus words, each through a linear layer of its own."""

    family: ClassVar[str] = "toy"

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(16)
        self.colour = nn.Linear(3, DIM)
        self.words = nn.Linear(BUCKETS, DIM, bias=False)

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Reference: the mean colour's vector. Target: the same, unit norm."""
        features = self.colour(images.mean(dim=(2, 3)))
        return ImageFeatures(features, F.normalize(features.float(), dim=-1))

    def compose(self, reference: Float[Tensor, "batch dim"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """normalise(reference + vectors of the words)."""
        counts = torch.zeros(len(texts), BUCKETS)
        for row, text in zip(counts, texts, strict=True):
            for word in text.split()[:MAX_WORDS]:
                row[crc32(word.encode()) % BUCKETS] += 1
        return F.normalize(reference.float() + self.words(counts.to(reference.device)).float(), dim=-1)

    def count_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())

    @property
    def max_tokens(self) -> int:
        """Words beyond these are cut."""
        return MAX_WORDS

    def train_stage(self, stage: int) -> Trained:
        """Stage 1 trains both layers, stage 2 the words' alone."""
        self.words.requires_grad_(True)
        self.colour.requires_grad_(stage == 1)
        return Trained(backbone=trainable([self.colour]), heads=trainable([self.words]))

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The colours' layer."""
        yield from self.colour.state_dict().items()

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        """`{"epoch", "toy_stage1"}` or `{"epoch", "toy_stage2"}`, names as they are here."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}
        return {"epoch": epoch, f"toy_stage{stage}": state}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], stage: int, place: str, options: Options = PUBLISHED) -> Self:
        """From the names above. Raises InputError that lists the names at fault."""
        del stage, options
        composer = cls()
        check_names(state, composer.state_dict(), place)
        composer.load_state_dict(state)
        return composer.eval()

    @classmethod
    def from_base(cls, model: str, tag: str | None, options: Options = PUBLISHED) -> Self:
        """Nothing is pretrained: torch's global seed draws both layers."""
        del model, tag, options
        return cls().eval()
