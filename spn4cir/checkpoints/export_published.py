"""Export: a checkpoint of either origin as a file that the original code loads."""

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
    """What was written.

    Attributes:
        family: whose network it is.
        stage: 1 or 2, as of the checkpoint.
        key: the state dict's place in the file.
        tensors: how many it holds.
        filled: names among them that the checkpoint's network does not have and no query or target depends on.
        widened: whether half-precision tensors became float32.
    """

    family: str
    stage: int
    key: str
    tensors: int
    filled: tuple[str, ...]
    widened: bool


def export_checkpoint(path: Path, out: Path, family: str | None = None, options: Options | None = None) -> Export:
    """Writes the plain published form: container, names and prefix of the stage, all weights in float32.

    The original code loads with `strict=False` and would keep its initial values where names are absent; here every
    name of its module is present, so that a strict load finds what it asks for too (but for TG-CIR's text masks and
    token learner in a first-stage file, where they tell nothing: stage 2 begins with copies of the image ones). What
    this network does not have is filled with fixed values (`Composer.extras`). The vocabulary of our own files is left
    out, and so is anything else at a file's top level. Published first-stage files hold BLIP-2's ViT matrices in
    float16; the original's module takes float32 as well.

    Args:
        path: a published file, one of ours, or a hub folder.
        out: the file to write, another one.
        family: the family that is expected, or a recipe of it; None takes what the file tells.
        options: head widths, where they are not the published ones.

    Raises:
        InputError: the file will not do, or `out` is the same file, lies in the hub folder or cannot be written.
    """
    if out.exists() and out.samefile(path):
        raise InputError(f"{out}: is the checkpoint itself; give the name of another file to write")
    if is_hub_folder(path):
        check_outside(out, weights_file(path).parent)
    checkpoint, composer, _, widened, _ = open_checkpoint(path, family, options)
    container, stage = checkpoint.container, checkpoint.stage
    content = composer.published(stage, checkpoint.epoch or 0)
    state = content[container.key]
    extras = {container.prefix + name: tensor for name, tensor in composer.extras(stage).items()}
    filled = {name: tensor for name, tensor in extras.items() if name not in state}
    save_tensors(content | {container.key: state | filled}, out)
    return Export(checkpoint.family, stage, container.key, len(state) + len(filled), tuple(filled), widened)
