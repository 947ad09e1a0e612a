"""A stub of a model family without a network, and tiny training settings."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spn4cir.composers.base import ComposerModule, trainable
from spn4cir.composers.protocol import ImageFeatures, Trained
from spn4cir.config.training import Optimisation, Train
from spn4cir.images.preprocess import Preprocess

OPTIMISATION: dict[str, Any] = {
    "tau": 0.1,
    "learn_tau": False,
    "lr": 1e-2,
    "backbone_lr": None,
    "schedule": {"name": "constant"},
    "dropout": False,
    "batch_size": 4,
    "epochs": 4,
    "weight_decay": 0.01,
    "betas": (0.9, 0.999),
    "eps": 1e-7,
    "precision": "float32",
    "chunk": None,
}


def optimisation(**changes: Any) -> Optimisation:
    return Optimisation(**(OPTIMISATION | changes))


STAGE2: dict[str, Any] = {"negatives": "bank", "bank_samples": None, "positives": "annotated"}
# Settings of stage 2 beyond the published ones, off.
BEYOND: dict[str, Any] = {
    "generated_loss": "info_nce",
    "generated_weight": 1.0,
    "hardness": 0.0,
    "false_negatives": None,
    "epoch_steps": None,
    "ema": None,
    "averaging": None,
    "symmetric": 0.0,
    "swaps": 0,
}


def stage2(**changes: Any) -> Train:
    return Train(**(OPTIMISATION | STAGE2 | BEYOND | changes))


class StubComposer(ComposerModule):
    """A family whose image feature is the mean colour of each quarter, (12,); a query adds a vector for the text to it.

    `encoded` counts encoded images; `meaning` maps texts to vectors, and other texts have a vector of zeros.
    """

    family: ClassVar[str] = "stub"

    def __init__(self, meaning: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.preprocess = Preprocess(8)
        self.meaning = meaning or {}
        self.encoded = 0
        self.temperature.data.fill_(OPTIMISATION["tau"])
        self.image_side = nn.Linear(12, 12, bias=False)
        self.text_side = nn.Linear(12, 12, bias=False)
        with torch.no_grad():
            self.image_side.weight.copy_(torch.eye(12))
            self.text_side.weight.copy_(torch.eye(12))

    def encode_image(self, images: Tensor) -> ImageFeatures:
        self.encoded += len(images)
        features = self.image_side(F.avg_pool2d(images, 4).flatten(1))
        return ImageFeatures(features, F.normalize(features.float(), dim=1))

    def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
        said = torch.stack([self.meaning.get(text, torch.zeros(12)) for text in texts])
        return F.normalize(self.text_side(reference) + said, dim=1)

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    @property
    def max_tokens(self) -> int:
        return 77

    def train_stage(self, stage: int) -> Trained:
        self.image_side.requires_grad_(stage == 1)
        return Trained(trainable([self.image_side]), trainable([self.text_side]))

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.image_side.state_dict().items()

    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, "stage": stage, "state_dict": {k: v.clone() for k, v in self.state_dict().items()}}
