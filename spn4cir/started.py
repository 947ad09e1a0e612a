"""Whether a stage was started by the user or by DVC, or again as one of the processes of a training."""

import os

# Set for the command that the prefix `machine.launch` starts, and for the processes of a training.
LAUNCHED, STARTED_BY = "SPN4CIR_LAUNCHED", "SPN4CIR_STARTED_BY"
_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"


def is_launched() -> bool:
    """Whether the prefix `machine.launch` has started this process."""
    return LAUNCHED in os.environ


def is_started_again() -> bool:
    """Whether a stage, its prefix or torchrun has started this process as a part of a training."""
    return is_launched() or STARTED_BY in os.environ or _BY_TORCHRUN in os.environ
