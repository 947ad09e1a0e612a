"""Optimiser, learning-rate schedule, loss scaling and moving average of a run, saved and resumed together."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Cosine, Decay, OneCycle, Optimisation, Train, WarmupCosine
from spn4cir.parallel import ALONE, Group
from spn4cir.training.moving_average import MovingAverage

# Lower bound of a learned temperature: half precision still distinguishes the logits.
MIN_TEMPERATURE = 1e-3
_SHORTEST_CYCLE = 3
# Schedules that change at each step; the others change once an epoch.
_EACH_STEP = (OneCycleLR, LambdaLR)
_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast_dtype(settings: Optimisation, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast; None: float32. float16 needs CUDA: the CPU uses float32 instead."""
    dtype = _DTYPES[settings.precision]
    return None if dtype is torch.float16 and device.type == "cpu" else dtype


def make_optimiser(composer: Composer, settings: Optimisation, stage: int) -> torch.optim.AdamW:
    """AdamW over the parameters that the stage trains, including the temperature if it is learned.

    Also sets which parameters require gradients, and sets the temperature to `tau`.
    """
    trained = composer.train_stage(stage)
    composer.temperature.requires_grad_(settings.learn_tau)
    composer.temperature.data.fill_(settings.tau)
    learned = [composer.temperature] if settings.learn_tau else []
    groups: list[dict[str, Any]] = [
        {"params": trained.backbone, "lr": settings.backbone_lr or settings.lr},
        {"params": [*trained.heads, *learned], "lr": settings.lr},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def make_scheduler(optimiser: torch.optim.Optimizer, settings: Optimisation, steps: int) -> LRScheduler | None:
    """The learning-rate schedule of the settings; None for a constant rate.

    A cycle over fewer than three steps has no start, peak and end, and is a constant rate as well.

    Args:
        optimiser: its rates are scheduled.
        settings: the schedule and the number of epochs.
        steps: steps in an epoch.
    """
    schedule = settings.schedule
    if isinstance(schedule, Decay):
        milestones = range(schedule.every, schedule.until + 1, schedule.every)
        return MultiStepLR(optimiser, list(milestones), gamma=schedule.factor)
    if isinstance(schedule, Cosine):
        return CosineAnnealingLR(optimiser, T_max=schedule.epochs)
    if isinstance(schedule, OneCycle) and settings.epochs * steps >= _SHORTEST_CYCLE:
        return OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in optimiser.param_groups],
            epochs=settings.epochs,
            steps_per_epoch=steps,
            pct_start=_rising_share(schedule, settings.epochs, steps),
            div_factor=1 / schedule.start,
            cycle_momentum=False,
        )
    if isinstance(schedule, WarmupCosine):
        total = settings.epochs * steps
        return LambdaLR(optimiser, partial(_warmup_cosine, warmup=int(schedule.warmup * total), total=total))
    return None


def _warmup_cosine(step: int, warmup: int, total: int) -> float:
    """The factor of the learning rate at a step from 0: 1 at the end of the warm-up, 0 after the last step."""
    return (step + 1) / warmup if step < warmup else (1 + cos(pi * (step - warmup) / (total - warmup))) / 2


def _rising_share(schedule: OneCycle, epochs: int, steps: int) -> float:
    """The share of all steps before the peak: at most half, at least two steps."""
    total = epochs * steps
    return max(min(schedule.peak * steps, total / 2), 2) / total


def set_dropout(composer: Composer, active: bool, seed: int) -> None:
    """Switches dropout on or off, with BatchNorm frozen. Draws depend on `seed`: a resumed run repeats them."""
    composer.train(active)
    for module in composer.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    if active:
        torch.manual_seed(seed)


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


@dataclass(frozen=True)
class TrainingRun:
    """The optimisation state of a run.

    Attributes:
        composer: the network.
        optimiser: optimiser of the trained parameters.
        scheduler: schedule of the learning rates; None: they are constant.
        scaler: loss scaling for float16; disabled for other precisions.
        settings: the settings of the run.
        average: moving average of the trained parameters, the temperature included if it is learned; None: there is
            none.
        group: the processes that train together, with equal states.
    """

    composer: Composer
    optimiser: torch.optim.Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    settings: Optimisation
    average: MovingAverage | None
    group: Group = ALONE

    @classmethod
    def begin(
        cls,
        composer: Composer,
        settings: Optimisation,
        stage: int,
        steps: int,
        device: torch.device,
        group: Group = ALONE,
    ) -> "TrainingRun":
        """The initial state of a run with `steps` steps in an epoch."""
        optimiser = make_optimiser(composer, settings, stage)
        scaler = torch.amp.GradScaler(device.type, enabled=autocast_dtype(settings, device) is torch.float16)
        decay = settings.ema if isinstance(settings, Train) and group.first else None
        average = None if decay is None else MovingAverage(_parameters(optimiser), decay)
        return cls(composer, optimiser, make_scheduler(optimiser, settings, steps), scaler, settings, average, group)

    @property
    def trained(self) -> list[nn.Parameter]:
        """The trained parameters, including the temperature if it is learned."""
        return _parameters(self.optimiser)

    def step(self, loss: Tensor) -> None:
        """Runs the backward pass and one step of the optimiser.

        In a group, the loss is the part of this process. The summed gradients, and so what the loss scaling makes of an
        overflow, are equal in all processes.
        """
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.trained)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.settings.learn_tau:
            self.composer.temperature.data.clamp_(min=MIN_TEMPERATURE)
        if self.average is not None:
            self.average.update()
        if isinstance(self.scheduler, _EACH_STEP):
            self.scheduler.step()

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the network has the averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.applied()

    def end_epoch(self) -> None:
        """Advances a schedule that changes once an epoch."""
        if self.scheduler is not None and not isinstance(self.scheduler, _EACH_STEP):
            self.scheduler.step()

    def learning_rate(self) -> float:
        """The learning rate of the last parameter group: the heads, or all parameters if there is one group."""
        return float(self.optimiser.param_groups[-1]["lr"])

    def state(self) -> dict[str, Any]:
        """The whole state as plain values and tensors."""
        return {
            "composer": self.composer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else {},
            "scaler": self.scaler.state_dict(),
            "average": self.average.state() if self.average else {},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Restores a state that `state` returned."""
        self.composer.load_state_dict(state["composer"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.resume(state["average"])
