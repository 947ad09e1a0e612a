"""The exponential moving average of the trained parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """The exponential moving average of parameters, updated after each step.

    After t earlier updates, an update is average = d * average + (1 - d) * parameters with
    d = min(decay, (1 + t) / (10 + t)): the weights before training count little after a few steps, whatever the decay.
    Source of this d: TensorFlow's `tf.train.ExponentialMovingAverage` with `num_updates`.

    Args:
        parameters: the trained parameters; their values are the start of the average.
        decay: share of the earlier average, between 0 and 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = list(parameters)
        self._average: list[Tensor] = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Adds the current values of the parameters to the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(self._average, self._parameters, self.updates)  # type: ignore[no-untyped-call]
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the parameters have their averages; afterwards they have their own values again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def state(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"average": self._average, "updates": self.updates}

    def resume(self, state: dict[str, Any]) -> None:
        """Restores a state that `state` returned."""
        self.updates = state["updates"]
        for average, stored in zip(self._average, state["average"], strict=True):
            average.copy_(stored)
