"""The network of a checkpoint file or of a hub folder, ready to be run."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from spn4cir.checkpoints.hub_folder import (
    CONFIG,
    Config,
    check_described,
    is_hub_folder,
    read_config,
    read_hub_folder,
    weights_file,
)
from spn4cir.checkpoints.published import Checkpoint, build_composer, read_checkpoint
from spn4cir.composers import composer_class
from spn4cir.composers.protocol import Composer, Options
from spn4cir.errors import InputError
from spn4cir.files import file_hash


class Opened(NamedTuple):
    """A network with what its file or folder tells.

    Attributes:
        checkpoint: where it comes from; its weights went into the network.
        composer: the network, on the CPU, in float32 and eval mode.
        options: what the file does not tell, as given, or as the folder tells.
        widened: whether tensors of half precision became float32.
        config: of a folder.
    """

    checkpoint: Checkpoint
    composer: Composer
    options: Options
    widened: bool
    config: Config | None


def open_checkpoint(place: Path, family: str | None = None, options: Options | None = None) -> Opened:
    """Reads a network.

    Args:
        place: a `.pt` file, published or of one's own, or what `export --to hub-folder` wrote.
        family: the family that is expected, or a recipe of it; None takes what the file tells.
        options: what the file does not tell; None takes what a folder tells, else the published values.

    Raises:
        InputError: the file or the folder will not do.
    """
    options, config, folder = options or Options(), None, weights_file(place).parent
    if is_hub_folder(place):
        checkpoint, config = read_hub_folder(folder)
        _check_family(folder, config, family)
        family = family or config.name
        options = replace(
            options,
            vision_head_width=options.vision_head_width or config.vision_head_width,
            text_head_width=options.text_head_width or config.text_head_width,
        )
    else:
        checkpoint = read_checkpoint(place, family)
    widened = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in checkpoint.state.values())
    composer = build_composer(checkpoint, place, family, options)
    if config is not None:
        check_described(folder, config, composer)
    return Opened(checkpoint, composer, options, widened, config)


def load_network(checkpoint: Path, family: str | None, options: Options, device: torch.device) -> Composer:
    """The network on the device. Refuses what its text tower lacks or does not read now, rather than after the work."""
    composer = open_checkpoint(checkpoint, family, options).composer
    if composer.vocabulary is None and options.tokenizer is not None:
        raise InputError(f"--tokenizer: family '{composer.family}' has a tokenizer of its own; leave the option out")
    return composer.to(device)


def weights_entry(checkpoint: Path) -> dict[str, dict[str, str]]:
    """The entry by which a metrics file tells whose scores it holds: the sha256 of a file's, or a folder's, weights."""
    return {"weights": {"sha256": file_hash(weights_file(checkpoint))}}


def fetch_folder(repository: str, revision: str = "main") -> Path:
    """A hub folder from the hub, in its cache: of one commit, each file checked by its hash.

    Raises InputError as `hub.fetch`, and where the repository holds something else.
    """
    from spn4cir.hub.fetch import fetch

    settings = fetch(repository, CONFIG, revision)
    folder = settings.path.parent
    for name, sha256 in read_config(folder).files.items():
        fetch(repository, name, settings.commit, sha256)
    return folder


def _check_family(folder: Path, config: Config, family: str | None) -> None:
    if family is not None and composer_class(family).family != config.family:
        raise InputError(
            f"{folder}: holds a stage-{config.stage} network of family '{config.family}', not '{family}'; "
            "name the right folder or family"
        )
