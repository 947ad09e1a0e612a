"""Names of published checkpoints and of the packages' modules: compared, and turned into each other by tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from spn4cir.errors import InputError

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
