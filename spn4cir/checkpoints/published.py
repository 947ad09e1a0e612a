"""Checkpoint files in the published formats: identified by their containers, and read without running their code."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spn4cir.composers import COMPOSERS, Container, composer_class
from spn4cir.composers.protocol import Composer, Options
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.weights import read_plain, unwrapped


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file by published name, without the container's prefix.

    Attributes:
        family: family of the network.
        stage: training stage, 1 or 2.
        container: container of the weights in the file.
        epoch: epoch after which they were written; None if the file does not contain it.
        state: tensors by name, without the prefix.
        vocabulary: words of the tokenizer, which files of this package contain; None if absent.
    """

    family: str
    stage: int
    container: Container
    epoch: int | None
    state: dict[str, Tensor]
    vocabulary: tuple[str, ...] | None = None


def _container(content: dict[str, Any], path: Path) -> tuple[str, Container]:
    """Returns the family and the container of a file; removes names of wrappers from its state dicts in place."""
    known = [(family, container) for family, entry in COMPOSERS.items() for container in entry.containers]
    for key in {container.key for _, container in known} & content.keys():
        if isinstance(content[key], dict):
            content[key] = unwrapped(content[key], f"{path}: '{key}'")
    for family, container in known:
        state = content.get(container.key)
        if isinstance(state, dict) and any(
            str(name).startswith(container.prefix) and container.mark in str(name) for name in state
        ):
            return family, container
    names = sorted({container.key for _, container in known})
    if within := [name for name in names if name in content]:
        raise InputError(
            f"{path}: is not a known checkpoint: '{within[0]}' contains no weights of a family; check the file"
        )
    keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
    wanted = ", ".join(f"'{name}'" for name in names)
    raise InputError(f"{path}: is not a known checkpoint: contains {keys}; expected one of {wanted}")


def read_checkpoint(path: Path, family: str | None = None) -> Checkpoint:
    """Reads the weights of a published file or of a file of this package.

    Args:
        path: a `.pt` file.
        family: the expected family, or a recipe of it; None detects the family.

    Raises:
        InputError: the file is absent, damaged, contains code, is not a checkpoint or is of another family.
    """
    wanted = None if family is None else composer_class(family).family
    content = read_plain(path)
    found, container = _container(content, path)
    if wanted is not None and found != wanted:
        raise InputError(
            f"{path}: is a stage-{container.stage} checkpoint of family '{found}', not '{family}'; "
            "name the right file or family"
        )
    named = content.pop(container.key)
    strangers = [
        str(name)
        for name, tensor in named.items()
        if not (str(name).startswith(container.prefix) or name in container.beside) or not isinstance(tensor, Tensor)
    ]
    if strangers:
        raise InputError(
            f"{path}: family '{found}': unexpected {strangers[:10]} in '{container.key}', expected tensors of the "
            "network alone; check the file"
        )
    state = {str(name).removeprefix(container.prefix): tensor for name, tensor in named.items()}
    epoch, words = content.get("epoch"), content.get("vocabulary")
    return Checkpoint(
        found,
        container.stage,
        container,
        epoch if isinstance(epoch, int) else None,
        state,
        tuple(map(str, words)) if isinstance(words, list) else None,
    )


def load_composer(path: Path, family: str | None = None, options: Options | None = None) -> Composer:
    """Loads the network of a checkpoint, on the CPU, in float32 and eval mode.

    Args:
        path: a published file, or a file of this package.
        family: the expected family, or a recipe of it; None detects the family.
        options: values that the file does not contain; None uses the published values and the file's vocabulary.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit the family.
    """
    return build_composer(read_checkpoint(path, family), path, family, options)


def build_composer(
    checkpoint: Checkpoint, path: Path, family: str | None = None, options: Options | None = None
) -> Composer:
    """Builds the network of a checkpoint that was read from `path`, in float32 and eval mode; may empty its state.

    Raises InputError if the tensors do not fit the family.
    """
    options = options or Options()
    if options.tokenizer is None:
        options = replace(options, vocabulary=checkpoint.vocabulary)
    cls = composer_class(family or checkpoint.family)
    return cls.from_state(checkpoint.state, checkpoint.stage, str(path), options)


def save_composer(composer: Composer, path: Path, stage: int, epoch: int) -> None:
    """Writes the weights atomically, in the published container of the stage.

    The vocabulary of a tokenizer that is not part of a package is stored in a separate entry, which the original code
    ignores.
    """
    words = {} if composer.vocabulary is None else {"vocabulary": list(composer.vocabulary)}
    save_tensors(composer.published(stage, epoch) | words, path)


def save_tensors(value: dict[str, Any], path: Path) -> None:
    """Writes tensors and plain values atomically. Raises InputError when the disk is full."""
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(value, stream)
        except RuntimeError as error:
            # torch finishes the archive after a failed write and reports wrong positions; the context is the cause.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
