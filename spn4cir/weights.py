"""Weight files, read without running their code."""

import warnings
from pathlib import Path
from typing import Any

import torch

from spn4cir.errors import InputError


def read_plain(path: Path) -> dict[str, Any]:
    """What a `.pt` file of plain tensors holds, on the CPU.

    Raises InputError when the file is absent, damaged, no checkpoint, or a pickle with code or objects in it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols: the error below says it all
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a checkpoint file (.pt)") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read (permission denied); check its owner and mode") from None
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes torch raise nearly anything: struct.error, AssertionError, ...
        if _holds_objects(path, str(error).lower()):
            raise InputError(
                f"{path}: refused: it holds code or objects beside tensors; only files of plain tensors are loaded"
            ) from None
        if "torchscript" in str(error).lower():
            raise InputError(
                f"{path}: is a TorchScript archive, as OpenAI publishes CLIP, no fine-tuned checkpoint; a base "
                "model is named {open_clip: NAME, tag: openai} in params.yaml"
            ) from None
        raise InputError(f"{path}: is no checkpoint, or is cut short; download or write it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no checkpoint: holds a {type(content).__name__}, expected a dict with weights")
    return content


def _holds_objects(path: Path, reason: str) -> bool:
    """Whether a file that torch refused is a pickle of more than tensors, rather than a broken or a foreign one."""
    if "unsupported global" in reason or "unsupported class" in reason:
        return True
    with path.open("rb") as stream:
        return "unsupported operand" in reason and stream.read(1) == b"\x80"
