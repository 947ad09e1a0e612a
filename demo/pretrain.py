"""What the training of the small models shares: augmentation, the loop, batches by kind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.images import CLIP_MEAN, CLIP_STD
from spn4cir.progress import progress

WEIGHT_DECAY = 0.02
WARM_UP = 0.1
MAX_NORM = 1.0


def normalised(pixels: UInt8[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
    """Pixels with CLIP's mean and standard deviation taken out."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels.float() / 255 - mean) / std


def augmented(
    pixels: UInt8[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 3 size size"]:
    """Normalised pixels, each picture moved and scaled a little, and lit a little differently."""
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


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of indices into `count` items, shuffled anew in each pass, none of them short.

    Raises ValueError when there are fewer items than a batch holds.
    """
    if count < batch_size:
        raise ValueError(f"{count} pictures are fewer than a batch of {batch_size}")
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def train(
    parameters: Iterable[torch.nn.Parameter], losses: Iterable[Tensor], steps: int, lr: float, label: str
) -> float:
    """Minimises each of `losses` in turn: AdamW, warm-up, decay to zero. Returns the last loss.

    Args:
        parameters: what is trained.
        losses: computed when it is their turn, so with the weights of that moment.
        steps: how many of the losses are taken.
        lr: the highest learning rate.
        label: what is being done, for the progress bar.
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


def require(name: str, measured: float, least: float) -> None:
    """Raises InputError when a measured figure is below its threshold."""
    if measured < least:
        raise InputError(f"{name} is {measured:.1f}, expected at least {least:g}; raise its steps in demo/params.yaml")


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder; the copy appears whole or not at all."""
    with atomic_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
