"""Export of a network as a hub folder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from spn4cir.checkpoints.hub_folder import (
    CARD,
    CONFIG,
    FILES,
    WEIGHTS,
    WORDS,
    Config,
    check_library,
    described,
    is_hub_folder,
    package_version,
    published_state,
    weights_file,
)
from spn4cir.checkpoints.model_card import CardScores, Facts, check_facts, read_measured, write_card
from spn4cir.checkpoints.open import Opened, open_checkpoint, weights_hash
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, check_replaceable, file_hash, named_in
from spn4cir.json_files import write_json

_OWN_TOKENIZER = "open_clip's, which the package brings"


def export_folder(
    checkpoint: Path, out: Path, facts: Facts, family: str | None = None, options: Options | None = None
) -> Config:
    """Writes the folder atomically and replaces an earlier export.

    Args:
        checkpoint: a published file, a file of this package, a hub folder, or the name of a pretrained network.
        out: the folder to write; it contains the files in `FILES`.
        facts: facts for the model card.
        family: the expected family, or a recipe of it; None detects the family.
        options: values that the file does not contain.

    Returns:
        The content of `config.json`.

    Raises:
        InputError: the file, the vocabulary, the licence or the metrics are not valid, or the folder cannot be written
            or contains other files.
    """
    _check_place(out, checkpoint)
    check_facts(facts)
    opened = open_checkpoint(checkpoint, family, options)
    stage, name = opened.checkpoint.stage, family or (opened.config.name if opened.config else opened.checkpoint.family)
    sha256 = weights_hash(checkpoint, opened.composer) if facts.metrics else ""
    measured = read_measured(facts, name, stage, checkpoint, sha256)
    with atomic_folder(out) as temporary:
        words = opened.composer.vocabulary
        if words is not None:
            (temporary / WORDS).write_text("\n".join(words) + "\n", encoding="utf-8")
        content = opened.composer.published(stage, opened.checkpoint.epoch or 0)
        tensors, shared = _apart(published_state(content, opened.checkpoint.container))
        try:
            save_file(tensors, temporary / WEIGHTS, {"format": "pt"})
        except SafetensorError as error:
            raise named_in(error, out) from None
        config = _config(opened, name, shared, measured, temporary)
        write_json(temporary / CONFIG, config.model_dump(mode="json"), indent=2)
        write_card(temporary / CARD, config, facts, measured)
    return config


def _check_place(out: Path, checkpoint: Path) -> None:
    """Raises InputError if the folder contains the checkpoint, or a model of another library with equal file names."""
    check_replaceable(out, FILES, "export")
    if not out.exists() or not any(out.iterdir()):
        return
    weights = weights_file(checkpoint)
    if is_hub_folder(checkpoint) and weights.exists() and out.samefile(weights.parent):
        raise InputError(f"{out}: is the checkpoint itself; give the name of another folder to write")
    try:
        check_library(out)
    except InputError:
        raise InputError(f"{out}: contains files that no export wrote; name a new folder for the export") from None


def _apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns each tensor under its first name, and a dict of each further name to the first name."""
    first: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in state.items():
        first.setdefault((tensor.data_ptr(), tensor.shape), name)
    owner = {name: first[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in state.items() if owner[name] == name}
    return tensors, {name: other for name, other in owner.items() if other != name}


def _config(opened: Opened, name: str, shared: dict[str, str], measured: CardScores | None, folder: Path) -> Config:
    composer, checkpoint = opened.composer, opened.checkpoint
    files = [name for name in (WEIGHTS, WORDS) if (folder / name).exists()]
    return Config(
        version=package_version(),
        family=checkpoint.family,
        recipe=None if name == checkpoint.family else name,
        stage=checkpoint.stage,
        epoch=checkpoint.epoch,
        pretrained=None if opened.pretrained is None else opened.pretrained.public,
        vision_head_width=opened.options.vision_head_width,
        text_head_width=opened.options.text_head_width,
        tokenizer=WORDS if WORDS in files else _OWN_TOKENIZER,
        protocol=None if measured is None else measured.protocol,
        shared=shared,
        files={name: file_hash(folder / name) for name in files},
        **described(composer),
    )
