"""The network of a checkpoint, ready to be run."""

from pathlib import Path

import torch

from spn4cir.checkpoints import load_composer
from spn4cir.composers.protocol import Composer, Options
from spn4cir.errors import InputError


def load_network(checkpoint: Path, family: str | None, options: Options, device: torch.device) -> Composer:
    """The network on the device. Refuses what its text tower lacks or does not read now, rather than after the work."""
    composer = load_composer(checkpoint, family, options)
    if composer.vocabulary is None and options.tokenizer is not None:
        raise InputError(f"--tokenizer: family '{composer.family}' has a tokenizer of its own; leave the option out")
    return composer.to(device)
