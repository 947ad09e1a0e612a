"""Names of published checkpoints and of the packages' modules: compared, and turned into each other by tables."""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spn4cir.errors import InputError

# Of CLIP, of BLIP's ViT, of BERT, of the Q-Former and of Unicom.
HEAD_WIDTH = 64
# Of BLIP-2's ViT.
EVA_HEAD_WIDTH = 88


_NUMBER = r"(\d+)"


@dataclass(frozen=True)
class KeyMap:
    """A table of names, published on the left and ours on the right; read in both directions.

    Attributes:
        pairs: names of modules or of single tensors; `{i}` stands for a layer's number. What follows a module's name
            (`.weight`, `.bias`) is the same on both sides. The first pair that fits counts.
        extras: patterns of published names that hold nothing the network reads; accepted and dropped.
    """

    pairs: tuple[tuple[str, str], ...]
    extras: tuple[str, ...] = ()

    def to_ours(self, state: dict[str, Tensor], place: str) -> dict[str, Tensor]:
        """The tensors under our names; `state` is emptied, so that no second copy need be held.

        Raises InputError that lists the names which are in no pair and no extra.
        """
        for name in [name for name in state if any(re.fullmatch(extra, name) for extra in self.extras)]:
            del state[name]
        names = {name: _translate(name, self._published) for name in state}
        if unknown := sorted(name for name, ours in names.items() if ours is None):
            raise InputError(f"{place}: unexpected {unknown[:10]}; check the file and the family")
        return {str(ours): state.pop(name) for name, ours in names.items()}

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under their published names. Raises KeyError for a name that no pair holds."""
        published = {}
        for name, tensor in state.items():
            translated = _translate(name, self._ours)
            if translated is None:
                raise KeyError(name)
            published[translated] = tensor
        return published

    @cached_property
    def _published(self) -> list[tuple[re.Pattern[str], str]]:
        return _rules(self.pairs)

    @cached_property
    def _ours(self) -> list[tuple[re.Pattern[str], str]]:
        return _rules([(ours, published) for published, ours in self.pairs])


def _rules(pairs: Sequence[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(re.escape(left).replace(r"\{i\}", _NUMBER) + r"(\.\w+)?"), right) for left, right in pairs]


def _translate(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in rules:
        if found := pattern.fullmatch(name):
            *numbers, leaf = found.groups()
            return template.format(i=numbers[0] if numbers else "") + (leaf or "")
    return None


def count_modules(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules stand under a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def heads(width: int, head_width: int) -> int:
    """How many attention heads. Raises ValueError for a head width that does not divide the width."""
    if width % head_width:
        raise ValueError(
            f"width {width} is no multiple of the head width {head_width}; "
            "name another with --vision-head-width or --text-head-width"
        )
    return width // head_width


def check_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: str) -> None:
    """Raises InputError unless both hold the same names with the same shapes, and numbers of the same kind."""
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    kinds = [
        f"{name} of {state[name].dtype}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].is_floating_point() != expected[name].is_floating_point()
    ]
    found = (("missing", missing), ("unexpected", extra), ("shape", shapes), ("kind", kinds))
    faults = [f"{what} {names}" for what, names in found if names]
    if faults:
        raise InputError(f"{place}: does not fit the network its sizes call for: {'; '.join(faults)}")


# Attributes that hold the wrapped module in DataParallel and DDP, torch.compile, FSDP, and activation checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


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


def unwrapped(named: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A state dict under the names that the network has without the modules that wrapped it or a part of it.

    `module.` and `_orig_mod.` are taken off wherever they are in a name, in any order; a line on stderr says so.

    Args:
        named: tensors by name.
        place: the file, for messages.

    Raises:
        InputError: some names have a wrapper where others of the same module have none.
    """
    names = list(map(str, named))
    wrapped: dict[str, str] = {}  # a module's prefix, and what wraps it
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
    print(f"{place}: was saved from a wrapped network; {found} is taken off the names", file=sys.stderr)
    return {_own_name(name): tensor for name, tensor in zip(names, named.values(), strict=True)}


def _own_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefix(parts: Sequence[str]) -> str:
    """What the names below a module begin with."""
    return "".join(f"{part}." for part in parts)


def _holds_objects(path: Path, reason: str) -> bool:
    """Whether a file that torch refused is a pickle of more than tensors, rather than a broken or a foreign one."""
    if "unsupported global" in reason or "unsupported class" in reason:
        return True
    with path.open("rb") as stream:
        return "unsupported operand" in reason and stream.read(1) == b"\x80"
