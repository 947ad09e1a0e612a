"""Checkpoint files in the published formats: told apart by their containers, read without running their code."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from spn4cir.composers import COMPOSERS, composer_class
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.files import atomic_file


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


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a checkpoint file (.pt)") from None
    except pickle.UnpicklingError as error:
        reason = "it holds code or objects beside tensors" if "weights" in str(error).lower() else "it is damaged"
        raise InputError(f"{path}: refused: {reason}; only files of plain tensors are loaded") from None
    except (RuntimeError, EOFError, BadZipFile, ValueError, KeyError, AttributeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: is no checkpoint, or is cut short ({reason}); download or write it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no checkpoint: holds a {type(content).__name__}, expected a dict with weights")
    return content


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
    content = _load(path)
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
    with atomic_file(path) as temporary:
        torch.save(composer.published(stage, epoch), temporary)
