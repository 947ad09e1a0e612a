"""Functions that the trainings of the small models share: augmentation, losses, batches, the loop, folders."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from demo.draw.attributes import Thing, attributes
from demo.draw.images import TrainingImages, label_rows, value_counts
from spn4cir.files import atomic_folder
from spn4cir.images.preprocess import CLIP_MEAN, CLIP_STD
from spn4cir.progress import progress

WEIGHT_DECAY = 0.02
WARM_UP = 0.1
MAX_NORM = 1.0
# Upper bound of the logit scale before exp, as in CLIP.
MAX_LOGIT_SCALE = 4.6
# Factor of unit-norm features before the classifiers of attributes.
FEATURE_SCALE = 8.0


def normalised(pixels: UInt8[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
    """Returns pixels (0 to 255) normalised by CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels.float() / 255 - mean) / std


def augmented(
    pixels: UInt8[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 3 size size"]:
    """Returns normalised pixels; each image is shifted, scaled and lightened or darkened a little at random."""
    count = len(pixels)
    scale = torch.empty(count).uniform_(0.95, 1.05, generator=generator)
    shift = torch.empty(count, 2).uniform_(-0.06, 0.06, generator=generator)
    light = torch.empty(count, 1, 1, 1).uniform_(0.92, 1.08, generator=generator)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, [count, 3, *pixels.shape[-2:]], align_corners=False)
    moved = functional.grid_sample(pixels.float() * light, grid, padding_mode="border", align_corners=False)
    return normalised(moved.clamp(0, 255))


def attribute_losses(logits: Float[Tensor, "things values"], things: Sequence[Thing]) -> Float[Tensor, " attributes"]:
    """Returns the cross entropy of each attribute; a row of `logits` has those of all values of all attributes."""
    labels = label_rows(things)
    parts = torch.split(logits, value_counts(things[0]), dim=1)
    return torch.stack([functional.cross_entropy(part, labels[:, i]) for i, part in enumerate(parts)])


class AttributeHeads(nn.Module):
    """Linear classifiers of all attributes of every kind. Their loss trains features from which attributes can be read.

    Args:
        shown: the images of each kind, in the order of the kinds in a batch.
        width: width of the features.
    """

    def __init__(self, shown: Sequence[TrainingImages], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, sum(value_counts(kind.things[0]))) for kind in shown)

    def loss(self, features: Float[Tensor, "batch width"], things: Sequence[Sequence[Thing]]) -> Float[Tensor, ""]:
        """Returns the mean cross entropy of the attributes.

        Args:
            features: features of the first kind, then those of the next.
            things: the things of the features, one sequence a kind.
        """
        parts = torch.split(features, [len(part) for part in things])
        each = zip(self.heads, parts, things, strict=True)
        return torch.cat([attribute_losses(head(part), of_kind) for head, part, of_kind in each]).mean()


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yields full batches of indices into `count` items without end; each pass has its own random order.

    Raises ValueError if there are fewer items than a batch has.
    """
    if count < batch_size:
        raise ValueError(f"{count} images are fewer than a batch of {batch_size}")
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def mixed_batches(things: Sequence[Thing], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Yields batches of indices without end, alternately of any things and of things that share two attributes.

    The captions of things that share attributes differ in attributes that are harder to see, which the towers then
    learn too.
    """
    everything = list(range(len(things)))
    names = list(things[0].VALUES)
    while True:
        yield rng.sample(everything, size)
        shared = {name: rng.choice(things[0].VALUES[name]) for name in rng.sample(names, 2)}
        alike = [index for index in everything if attributes(things[index]).items() >= shared.items()]
        yield rng.sample(alike if len(alike) >= size else everything, size)


def contrastive_loss(logits: Float[Tensor, "batch batch"], same: Bool[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """Returns CLIP's symmetric loss over a batch. Pairs with the same text are no negatives."""
    logits = logits.masked_fill(same, -torch.inf)
    labels = torch.arange(len(logits))
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2


def train(
    parameters: Iterable[torch.nn.Parameter], losses: Iterable[Tensor], steps: int, lr: float, label: str
) -> float:
    """Minimises each of `losses` in turn: AdamW, warm-up, decay to zero. Returns the last loss.

    Args:
        parameters: the parameters to train.
        losses: an iterator that computes each loss with the current weights.
        steps: number of losses to take.
        lr: the highest learning rate.
        label: label of the progress bar.
    """
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=max(steps, 2), pct_start=WARM_UP, cycle_momentum=False
    )
    last = 0.0
    for step, value in enumerate(progress(islice(losses, steps), steps, label, "steps")):
        optimizer.zero_grad()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(trained, MAX_NORM)
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
        last = value.item()
    return last


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder. The copy appears complete or not at all."""
    with atomic_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def quiet_transformers() -> None:
    """Disables the progress bars of transformers unless stderr is a terminal."""
    from transformers.utils import logging

    switches: Any = logging
    if not sys.stderr.isatty():
        switches.disable_progress_bar()
