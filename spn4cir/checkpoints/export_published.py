"""Export of a checkpoint as a file that the original code loads."""

from dataclasses import dataclass
from pathlib import Path

from spn4cir.checkpoints.hub_folder import is_hub_folder, weights_file
from spn4cir.checkpoints.open import open_checkpoint
from spn4cir.checkpoints.published import save_tensors
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from spn4cir.files import check_outside


@dataclass(frozen=True)
class Export:
    """Summary of an exported file.

    Attributes:
        family: family of the network.
        stage: stage of the checkpoint, 1 or 2.
        key: key of the state dict in the file.
        tensors: number of tensors in the state dict.
        filled: names of tensors that the checkpoint's network does not have; no query or target depends on them.
        widened: whether half-precision tensors were converted to float32.
    """

    family: str
    stage: int
    key: str
    tensors: int
    filled: tuple[str, ...]
    widened: bool


def export_checkpoint(path: Path, out: Path, family: str | None = None, options: Options | None = None) -> Export:
    """Writes the plain published form: container, names and prefix of the stage, all weights in float32.

    The original code loads with `strict=False` and keeps initial values for absent names. The exported file contains
    every name of the original module, so that a strict load succeeds too, except for TG-CIR's text masks and token
    learner in a first-stage file: stage 2 begins with copies of the image ones. Tensors that this network does not have
    are filled with fixed values (`Composer.extras`). The vocabulary and other top-level entries are not exported.
    Published first-stage files contain BLIP-2's ViT matrices in float16; the original module also loads float32.

    Args:
        path: a published file, a file of this package, a hub folder, or the name of a pretrained network, which is
            written as a file of the first stage.
        out: the file to write; it must differ from `path`.
        family: the expected family, or a recipe of it; None detects the family.
        options: head widths that differ from the published ones.

    Raises:
        InputError: the file cannot be read, or `out` is the same file, is in the hub folder or cannot be written.
    """
    if out.exists() and path.exists() and out.samefile(path):
        raise InputError(f"{out}: is the checkpoint itself; give the name of another file to write")
    if is_hub_folder(path):
        check_outside(out, weights_file(path).parent)
    opened = open_checkpoint(path, family, options)
    checkpoint, composer = opened.checkpoint, opened.composer
    container, stage = checkpoint.container, checkpoint.stage
    content = composer.published(stage, checkpoint.epoch or 0)
    state = content[container.key]
    extras = {container.prefix + name: tensor for name, tensor in composer.extras(stage).items()}
    filled = {name: tensor for name, tensor in extras.items() if name not in state}
    save_tensors(content | {container.key: state | filled}, out)
    return Export(checkpoint.family, stage, container.key, len(state) + len(filled), tuple(filled), opened.widened)
