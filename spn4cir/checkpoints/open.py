"""Loading of the network of a checkpoint file, of a hub folder, or of a pretrained network by its name."""

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
from spn4cir.checkpoints.pretrained import (
    EXAMPLE,
    FAMILY,
    PretrainedName,
    load_pretrained,
    network_hash,
    pretrained_name,
)
from spn4cir.checkpoints.published import Checkpoint, build_composer, read_checkpoint
from spn4cir.composers import COMPOSERS, composer_class
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
        pretrained: name of a pretrained network; None for a checkpoint.
    """

    checkpoint: Checkpoint
    composer: Composer
    options: Options
    widened: bool
    config: Config | None = None
    pretrained: PretrainedName | None = None


def open_checkpoint(place: Path, family: str | None = None, options: Options | None = None) -> Opened:
    """Reads a network that has a published form.

    Args:
        place: a published `.pt` file, one of this package, a folder that `export --to hub-folder` wrote, or the name of
            a pretrained network.
        family: the expected family, or a recipe of it; None detects the family.
        options: values that the file does not contain; None uses those of a folder, else the published values.

    Raises:
        InputError: the file or the folder cannot be read, is damaged or is of another family, or the pretrained network
            is not a CLIP with quick GELU, which the published form requires.
    """
    if (name := pretrained_name(place)) is not None:
        return _open_pretrained(name, family, options or Options())
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
        _check_present(place)
        checkpoint = read_checkpoint(place, family)
    widened = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in checkpoint.state.values())
    composer = build_composer(checkpoint, place, family, options)
    if config is not None:
        check_described(folder, config, composer)
    return Opened(checkpoint, composer, options, widened, config)


def load_network(
    checkpoint: Path, family: str | None, options: Options, device: torch.device, composition: str | None = None
) -> Composer:
    """Loads the network on the device.

    Args:
        checkpoint: a file, a hub folder, or the name of a pretrained network; that may have GELU instead of quick GELU.
        family: the expected family, or a recipe of it; None detects the family.
        options: values that the file does not contain.
        device: where the network runs.
        composition: a rule of `spn4cir.composers.compositions`; None: the family's own composition, for a pretrained
            network `sum`.

    Raises:
        InputError: the checkpoint is unreadable, the vocabulary is missing, the family does not use the tokenizer or
            the composition, or the pretrained network cannot be downloaded or composed.
    """
    if (name := pretrained_name(checkpoint)) is not None:
        from spn4cir.composers.compositions import RuleComposer

        _check_pretrained(name, family, options)
        composer: Composer = RuleComposer(*load_pretrained(name), composition or "sum").eval()
    else:
        composer = open_checkpoint(checkpoint, family, options).composer
        if composition is not None:
            from spn4cir.composers.compositions import compose_by

            composer = compose_by(composer, composition)
    if composer.vocabulary is None and options.tokenizer is not None:
        raise InputError(f"--tokenizer: family '{composer.family}' has its own tokenizer; leave the option out")
    return composer.to(device)


def weights_hash(checkpoint: Path, composer: Composer) -> str:
    """Returns the sha256 that identifies weights: of the weights file, or of a pretrained network.

    Args:
        checkpoint: the file, the hub folder or the name that the composer was loaded from.
        composer: the network.
    """
    name = pretrained_name(checkpoint)
    return file_hash(weights_file(checkpoint)) if name is None else network_hash(name, composer)


def weights_entry(checkpoint: Path, composer: Composer) -> dict[str, dict[str, str]]:
    """Returns the entry of a metrics file that identifies the scored weights: sha256, and a pretrained network's name.

    The arguments are those of `weights_hash`.
    """
    name = pretrained_name(checkpoint)
    sha256 = {"sha256": weights_hash(checkpoint, composer)}
    return {"weights": sha256 if name is None else {"name": name.public, **sha256}}


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


def _check_present(place: Path) -> None:
    """Raises InputError for a path that does not exist, with the form of the names of pretrained networks."""
    if not place.exists():
        raise InputError(f"{place}: no such checkpoint; check the path, or name a pretrained network, as in {EXAMPLE}")


def _open_pretrained(name: PretrainedName, family: str | None, options: Options) -> Opened:
    """Opens a pretrained network in the published form of the first stage."""
    from spn4cir.composers.clip import ClipComposer
    from spn4cir.composers.openai_clip import openai_form

    _check_pretrained(name, family, options)
    composer = ClipComposer(*openai_form(load_pretrained(name).network, str(name))).eval()
    checkpoint = Checkpoint(FAMILY, 1, COMPOSERS[FAMILY].containers[0], None, {})
    return Opened(checkpoint, composer, options, widened=False, pretrained=name)


def _check_pretrained(name: PretrainedName, family: str | None, options: Options) -> None:
    """Raises InputError for options that a pretrained network does not take, before any download."""
    if family is not None and composer_class(family).family != FAMILY:
        raise InputError(f"{name}: is composed as family '{FAMILY}', not as '{family}'; leave the family out")
    if options.vision_head_width is not None or options.text_head_width is not None:
        raise InputError(f"{name}: open_clip's configuration contains the head widths; leave the options out")


def _check_family(folder: Path, config: Config, family: str | None) -> None:
    if family is not None and composer_class(family).family != config.family:
        raise InputError(
            f"{folder}: contains a stage-{config.stage} network of family '{config.family}', not '{family}'; "
            "name the right folder or family"
        )
