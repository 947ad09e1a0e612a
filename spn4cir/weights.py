"""Reads weight files without running code in them, and compares their tensors with those of a network.

Also defines the widths of attention heads, which files do not contain.
"""

import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.readable import check_file

# Width of an attention head of CLIP, of BLIP's ViT, of BERT, of the Q-Former and of Unicom, as published.
HEAD_WIDTH = 64
# Width of an attention head of BLIP-2's ViT.
EVA_HEAD_WIDTH = 88
# Attributes of the wrapped module in DataParallel and DDP, torch.compile, FSDP, and activation checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_LISTED = 10
# Bytes that the archive of a small TorchScript program, whose code is compressed, may have beyond its size.
_UNPACKED = 1 << 26


def read_plain(path: Path) -> dict[str, Any]:
    """Reads a `.pt` file of plain tensors, on the CPU.

    Raises InputError if the file is absent, damaged, not a checkpoint, a compressed archive, or a pickle that contains
    code, objects, or tensors with fewer bytes than their shape needs.
    """
    if not path.is_dir():
        check_file(path)
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols: the error below suffices
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a checkpoint file (.pt)") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read (permission denied); check its owner and mode") from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(
            f"{path}: needs more memory than there is, or states wrong sizes; check the file, or use another machine"
        ) from None
    except Exception as error:  # a broken file makes torch raise nearly anything: struct.error, AssertionError, ...
        if _holds_objects(path, str(error).lower()):
            raise InputError(
                f"{path}: refused: it contains code or objects beside tensors; give a file of plain tensors"
            ) from None
        if "torchscript" in str(error).lower():
            raise InputError(
                f"{path}: is a TorchScript archive, as OpenAI publishes CLIP, not a fine-tuned checkpoint; name a "
                "base model as {open_clip: NAME, tag: openai} in params.yaml"
            ) from None
        raise InputError(f"{path}: is not a checkpoint, or is cut short; download or write it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a checkpoint: got a {type(content).__name__}, expected a dict with weights")
    _check_bytes(content, path)
    return content


def _check_archive(path: Path) -> None:
    """Raises InputError for an archive that unpacks to more bytes than the file has; torch writes none."""
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            return
    with zipfile.ZipFile(path) as archive:
        if sum(each.file_size for each in archive.infolist()) > path.stat().st_size + _UNPACKED:
            raise InputError(
                f"{path}: is a compressed archive, expected one that torch.save wrote; unpack it, or download it again"
            )


def _check_bytes(content: Mapping[Any, Any], path: Path) -> None:
    """Raises InputError for a tensor whose bytes the file does not contain: a network would be built of its shape."""
    for value in content.values():
        for tensor in value.values() if isinstance(value, dict) else (value,):
            if isinstance(tensor, Tensor) and not _is_plain(tensor):
                raise InputError(
                    f"{path}: contains a tensor of shape {tuple(tensor.shape)} without its numbers (sparse, quantized, "
                    "repeated or of no device); save plain tensors: tensor.cpu().to_dense().contiguous()"
                )


def _is_plain(tensor: Tensor) -> bool:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def unwrapped(named: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Removes the prefixes of wrapper modules (`module.`, `_orig_mod.`, ...) from the names of a state dict.

    They are removed at every place in a name, in any order, and a line on stderr reports them.

    Args:
        named: tensors by name.
        place: the file, for messages.

    Raises:
        InputError: only some names of a module have its wrapper.
    """
    names = list(map(str, named))
    wrapped: dict[str, str] = {}  # the prefix of a module, and its wrapper
    for name in names:
        parts = name.split(".")
        wrapped |= {_prefix(parts[:i]): part for i, part in enumerate(parts) if part in _WRAPPERS}
    if not wrapped:
        return dict(named)
    for prefix, wrapper in wrapped.items():
        inside = [name for name in names if name.startswith(prefix)]
        if bare := [name for name in inside if not name.startswith(f"{prefix}{wrapper}.")]:
            raise InputError(
                f"{place}: {len(inside) - len(bare)} names begin with '{prefix}{wrapper}.' and {len(bare)} do not, as "
                f"'{bare[0]}'; write the weights of one network into it"
            )
    found = ", ".join(f"'{wrapper}.'" for wrapper in _WRAPPERS if wrapper in wrapped.values())
    print(f"{place}: was saved from a wrapped network; removed {found} from the names", file=sys.stderr)
    return {_own_name(name): tensor for name, tensor in zip(names, named.values(), strict=True)}


def check_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: str) -> None:
    """Compares the tensors of a file with those of the network that is built from the file's shapes.

    Args:
        state: tensors of the file, by name.
        expected: tensors of the network, by name.
        place: the file, for messages.

    Raises:
        InputError: names are missing or unexpected, shapes differ, or weights are integers or not numbers (NaN).
    """
    common = sorted(expected.keys() & state.keys())
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in common
            if state[name].shape != expected[name].shape
        ],
        "kind": [
            f"{name} of {state[name].dtype}"
            for name in common
            if expected[name].is_floating_point() and not state[name].is_floating_point()
        ],
        "NaN": [name for name in common if state[name].is_floating_point() and bool(state[name].isnan().any())],
    }
    found = [f"{fault} {_shown(names)}" for fault, names in faults.items() if names]
    if found:
        raise InputError(
            f"{place}: does not fit a network of its sizes: {'; '.join(found)}; check the file or download it again"
        )


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return f"{list(names[:_LISTED])}" + (f" and {more} more" if more > 0 else "")


def _own_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefix(parts: Sequence[str]) -> str:
    """Returns the prefix of all names in a module."""
    return "".join(f"{part}." for part in parts)


def _holds_objects(path: Path, reason: str) -> bool:
    """Whether a file that torch refused is a pickle with objects other than tensors, rather than a broken file."""
    if "unsupported global" in reason or "unsupported class" in reason:
        return True
    with path.open("rb") as stream:
        return "unsupported operand" in reason and stream.read(1) == b"\x80"
