"""Loading of the network of a checkpoint file or of a hub folder."""

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
    """A network with the information in its file or folder.

    Attributes:
        checkpoint: the file's content; its weights were moved into the network.
        composer: the network, on the CPU, in float32 and eval mode.
        options: the given options, completed with those of a folder.
        widened: whether half-precision tensors were converted to float32.
        config: settings of a hub folder; None for a file.
    """

    checkpoint: Checkpoint
    composer: Composer
    options: Options
    widened: bool
    config: Config | None


def open_checkpoint(place: Path, family: str | None = None, options: Options | None = None) -> Opened:
    """Reads a network.

    Args:
        place: a published `.pt` file, one of this package, or a folder that `export --to hub-folder` wrote.
        family: the expected family, or a recipe of it; None detects the family.
        options: values that the file does not contain; None uses those of a folder, else the published values.

    Raises:
        InputError: the file or the folder cannot be read, is damaged or is of another family.
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
    """Loads the network on the device.

    Raises InputError for an unreadable checkpoint, a missing vocabulary, or a tokenizer that the family does not use,
    before any work is done.
    """
    composer = open_checkpoint(checkpoint, family, options).composer
    if composer.vocabulary is None and options.tokenizer is not None:
        raise InputError(f"--tokenizer: family '{composer.family}' has its own tokenizer; leave the option out")
    return composer.to(device)


def weights_entry(checkpoint: Path) -> dict[str, dict[str, str]]:
    """Returns the entry of a metrics file that identifies the scored weights: the sha256 of the weights file."""
    return {"weights": {"sha256": file_hash(weights_file(checkpoint))}}


def fetch_folder(repository: str, revision: str = "main") -> Path:
    """Downloads a hub folder of one commit into the hub's cache, and compares each file with its hash.

    Raises InputError if a download fails, or the repository does not contain a hub folder of this package.
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
            f"{folder}: contains a stage-{config.stage} network of family '{config.family}', not '{family}'; "
            "name the right folder or family"
        )
