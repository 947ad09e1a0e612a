"""Tables that map the names of published state dicts to the names of our modules, and sizes read from state dicts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from spn4cir.errors import InputError

_NUMBER = r"(\d+)"


@dataclass(frozen=True)
class KeyMap:
    """A table of pairs of published name and our name, used in both directions.

    Attributes:
        pairs: names of modules or of single tensors; `{i}` matches the number of a layer. The part after a module's
            name (`.weight`, `.bias`) is the same on both sides. The first matching pair applies.
        extras: regular expressions of published names that the network does not use; their tensors are dropped.
    """

    pairs: tuple[tuple[str, str], ...]
    extras: tuple[str, ...] = ()

    def to_ours(self, state: dict[str, Tensor], place: str) -> dict[str, Tensor]:
        """Returns the tensors under our names and empties `state`, so that there is no second copy of the weights.

        Raises InputError that lists the names that match neither a pair nor an extra.
        """
        for name in [name for name in state if any(re.fullmatch(extra, name) for extra in self.extras)]:
            del state[name]
        names = {name: _translate(name, self._published) for name in state}
        if unknown := sorted(name for name, ours in names.items() if ours is None):
            raise InputError(f"{place}: unexpected {unknown[:10]}; check the file and the family")
        return {str(ours): state.pop(name) for name, ours in names.items()}

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the tensors under their published names. Raises KeyError for a name that matches no pair."""
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
    """Returns the number of numbered modules under a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def heads(width: int, head_width: int) -> int:
    """Returns the number of attention heads. Raises ValueError if the head width does not divide the width."""
    if width % head_width:
        raise ValueError(
            f"width {width} is not a multiple of the head width {head_width}; "
            "name another with --vision-head-width or --text-head-width"
        )
    return width // head_width
