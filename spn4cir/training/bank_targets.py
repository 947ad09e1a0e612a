"""The bank's target features on the device of the training: all rows, or those of one of several processes."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Train
from spn4cir.errors import InputError
from spn4cir.losses import Contrast
from spn4cir.losses.sharded import sharded_contrast
from spn4cir.parallel import Group

# With `auto`, targets above this share of the memory of a GPU are divided: weights and steps need the rest.
_LARGEST_SHARE = 0.25
# Settings that compare whole rows of scores, which no process has if the bank is divided.
_WHOLE_BANK = ("bank_samples", "false_negatives")


@dataclass(frozen=True)
class BankTargets:
    """Target features of the bank.

    Attributes:
        stored: all rows, on the CPU.
        held: the rows on the device, from `first` on.
        first: row of the first of them.
        divided: whether other processes hold the other rows.
    """

    stored: Float[Tensor, "images ..."]
    held: Float[Tensor, "held ..."]
    first: int
    divided: bool

    @classmethod
    def on(
        cls, device: torch.device, stored: Float[Tensor, "images ..."], group: Group, divided: bool
    ) -> "BankTargets":
        """Moves the rows to the device; of a divided bank, only those of this process."""
        if not divided:
            return cls(stored, stored.to(device), 0, False)
        first, end = (len(stored) * rank // group.size for rank in (group.rank, group.rank + 1))
        return cls(stored, stored[first:end].to(device), first, True)

    def rows(self, rows: Int[Tensor, " some"]) -> Tensor:
        """Any rows of the bank, on the device."""
        if self.divided:
            return self.stored[rows.cpu()].to(self.held.device)
        return self.held[rows.to(self.held.device)]

    def contrast(
        self,
        composer: Composer,
        queries: Float[Tensor, "batch dim"],
        target: Int[Tensor, " batch"],
        contrast: Contrast,
        group: Group,
    ) -> Float[Tensor, ""]:
        """This process's part of the loss of a whole batch against a divided bank.

        Args:
            composer: the network, with the temperature.
            queries: the queries of all processes.
            target: row of each query's target.
            contrast: the loss, without excluded candidates.
            group: the processes.
        """
        with torch.autocast(queries.device.type, enabled=False):
            scores = composer.score(queries.float(), self.held)
        here = (target >= self.first) & (target < self.first + len(self.held))
        labels = torch.where(here, target - self.first, -1).to(scores.device)
        return sharded_contrast(scores, labels, composer.temperature, contrast, group)


def divides_bank(
    asked: Literal["auto", "always", "never"], targets: Tensor, settings: Train, group: Group, device: torch.device
) -> bool:
    """Whether each process holds only its rows of the bank's targets.

    Args:
        asked: the setting `machine.shard_bank`; `auto`: only on GPUs, and only where all rows take more than a quarter
            of the memory of the smallest one.
        targets: all rows.
        settings: settings of stage 2.
        group: the processes.
        device: device of this process.

    Raises:
        InputError: `always` is asked for with a setting that needs all rows.
    """
    if asked == "never" or group.size == 1 or len(targets) < group.size:
        return False
    needing = [key for key in _WHOLE_BANK if getattr(settings, key) is not None]
    if asked == "always":
        if needing:
            raise InputError(
                f"machine.shard_bank: always divides the bank, and {needing[0]} of stage 2 needs all of it in each "
                f"process; set shard_bank to auto or never, or {needing[0]} to null"
            )
        return True
    if needing or device.type != "cuda":
        return False
    memory = torch.tensor(-torch.cuda.get_device_properties(device).total_memory)
    return targets.nbytes > _LARGEST_SHARE * -int(group.maximum(memory))
