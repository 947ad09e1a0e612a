"""A tiny published file of each family and stage, and the options for reading it."""

from pathlib import Path

import torch

from spn4cir.composers.protocol import Options
from tests.helpers import blip, blip2, checkpoints, tgcir
from tests.helpers.words import write_vocabulary

FAMILIES = ("clip", "tgcir", "blip", "blip2")
OPTIONS = {"tgcir": tgcir.OPTIONS}
# Families whose text towers need a vocabulary.
READS_WORDS = ("blip", "blip2")


def write_published(path: Path, family: str, stage: int = 1) -> Path:
    """Writes a tiny network as a published file of the stage, and a vocabulary beside it."""
    if family == "tgcir":
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tgcir.container(tgcir.published_state(stage)), path)
    else:
        {"clip": checkpoints, "blip": blip, "blip2": blip2}[family].write_checkpoint(path, stage)
    write_vocabulary(path.parent)
    return path


def options(family: str, folder: Path) -> Options:
    """Returns the options for reading the network; its vocabulary is in the folder."""
    return Options(tokenizer=str(folder)) if family in READS_WORDS else OPTIONS.get(family, Options())


def flags(family: str, folder: Path) -> list[str]:
    """Returns the command-line options for reading the network; its vocabulary is in the folder."""
    found = options(family, folder)
    pairs = {
        "--tokenizer": found.tokenizer,
        "--vision-head-width": found.vision_head_width,
        "--text-head-width": found.text_head_width,
    }
    return [str(word) for flag, value in pairs.items() if value is not None for word in (flag, value)]
