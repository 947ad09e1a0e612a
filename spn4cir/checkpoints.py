"""Checkpoint files in the published formats: told apart by their containers, read without running their code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spn4cir.composers import COMPOSERS, composer_class
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.weights import read_plain


@dataclass(frozen=True)
class Container:
    """How a family's weights are packed.

    Attributes:
        family: the family's name.
        stage: 1 or 2.
        key: top-level key of the state dict.
        prefix: what every name of the network begins with.
        mark: a name fragment that only this family's state dicts hold; empty where `key` or `prefix` tells.
    """

    family: str
    stage: int
    key: str
    prefix: str
    mark: str = ""


# The containers of every published file, so that a file of a family that cannot be read here is named too.
CONTAINERS = (
    Container("clip", 1, "CLIP", ""),
    Container("blip", 1, "BLIP_Retrieval", ""),
    Container("blip2", 1, "Blip2QformerCirAlignPrompt", ""),
    Container("clip", 2, "state_dict", "clip."),
    Container("blip", 2, "state_dict", "blip."),
    Container("blip2", 2, "state_dict", "blip_model."),
    Container("tgcir", 2, "state_dict", "", mark="backbone.masks_text"),
    Container("tgcir", 1, "state_dict", "", mark="backbone.masks"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights under the network's own names.

    Attributes:
        family: which family they belong to.
        stage: 1 or 2.
        state: tensors by name, prefix removed.
    """

    family: str
    stage: int
    state: dict[str, Tensor]


def _container(content: dict[str, Any], path: Path) -> Container:
    for container in CONTAINERS:
        state = content.get(container.key)
        if isinstance(state, dict) and any(
            str(name).startswith(container.prefix) and container.mark in str(name) for name in state
        ):
            return container
    keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
    known = ", ".join(sorted({f"'{container.key}'" for container in CONTAINERS}))
    raise InputError(f"{path}: is no known checkpoint: holds {keys}; expected one of {known}")


def read_checkpoint(path: Path, family: str | None = None) -> Checkpoint:
    """The weights of a published or own file.

    Args:
        path: a `.pt` file.
        family: the family that is expected; None takes what the file tells.

    Raises:
        InputError: the file is absent, damaged, holds code, is no checkpoint or is of another family.
    """
    content = read_plain(path)
    container = _container(content, path)
    if family is not None and container.family != family:
        raise InputError(
            f"{path}: is a stage-{container.stage} checkpoint of family '{container.family}', not '{family}'; "
            "name the right file or family"
        )
    named = content[container.key]
    state = {str(name).removeprefix(container.prefix): tensor for name, tensor in named.items()}
    strangers = [
        str(name)
        for name, tensor in named.items()
        if not str(name).startswith(container.prefix) or not isinstance(tensor, Tensor)
    ]
    if strangers:
        raise InputError(f"{path}: family '{container.family}': unexpected {strangers[:10]} in '{container.key}'")
    return Checkpoint(container.family, container.stage, state)


def load_composer(path: Path, family: str | None = None) -> Composer:
    """The network of a checkpoint, on the CPU, in float32 and eval mode. Raises InputError."""
    checkpoint = read_checkpoint(path, family)
    if checkpoint.family not in COMPOSERS:
        raise InputError(
            f"{path}: family '{checkpoint.family}' cannot be run by this version; it runs: {', '.join(COMPOSERS)}"
        )
    return composer_class(checkpoint.family).from_state(checkpoint.state, checkpoint.stage, str(path))


def save_composer(composer: Composer, path: Path, stage: int, epoch: int) -> None:
    """Writes the weights atomically, in the published container of the stage."""
    save_tensors(composer.published(stage, epoch), path)


def save_tensors(value: dict[str, Any], path: Path) -> None:
    """Writes tensors and plain values atomically. Raises InputError when the disk is full."""
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(value, stream)
        except RuntimeError as error:
            # The archive's end, written all the same, complains of positions; before it the stream said what is wrong.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
