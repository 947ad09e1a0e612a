"""Merges the section `defaults` of `params.yaml` into the entries, which contain only values that differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from spn4cir.config.base import Settings, short_repr
from spn4cir.config.params import Params
from spn4cir.errors import InputError

DEFAULTS = "defaults"
ALL = "all"
# Sections that may have defaults: dvc.yaml lists their defaults beside the entries, so that a change reruns the stages.
SHARED = ("dedup", "caption", "match", "shortcuts", "baselines", "benchmarks")
BY_FAMILY = ("triplets", "checkpoint", "bank", "filter", "train", "validate", "adjust")
# Keys without defaults: stages of other sections depend on them individually, and DVC fails for an absent key.
WATCHED = {"caption": ("words", "pool"), "match": ("window",), "checkpoint": ("positives",), "bank": ("images",)}

KeyPath = tuple[str, ...]
_Source = tuple[Any, str]
_FIELDS = {field.alias or name: field.annotation for name, field in Params.model_fields.items()}


@dataclass(frozen=True)
class Merged:
    """The content of a settings file after the merge.

    Attributes:
        values: the sections except `defaults`, with complete entries.
        origins: the entry that contains each value, e.g. `defaults.train.clip` or `train.fiq.clip`, by the value's
            path in `values`; sections without defaults are not included.
    """

    values: Any
    origins: dict[KeyPath, str]

    def origin(self, path: KeyPath) -> str | None:
        """Returns the entry that contains the value at `path`, or a value around it; None if no entry contains it."""
        ends = range(len(path), 0, -1)
        return next((self.origins[path[:end]] for end in ends if path[:end] in self.origins), None)

    def written(self, path: KeyPath) -> str:
        """Returns the key in the file that contains the value at `path`."""
        origin = self.origin(path)
        return ".".join(path) if origin is None else ".".join((origin, *path[_depth(path[0]) :]))


def merge_defaults(content: Any, place: str) -> Merged:
    """Completes every entry of a data set with the defaults of its section, or of its section and family.

    A data set has the families that its entry names; `{}` as entry takes all defaults. Settings and mappings by family
    are merged key by key. All other values are replaced whole: numbers, texts, lists, null, and values that can have
    several forms (a schedule, a hub file).

    Args:
        content: content of the YAML file.
        place: name of the file, for error messages.

    Raises:
        InputError: `defaults` is not a mapping of sections that may have defaults, has values for a family that no data
            set has, or an entry has the reserved name `all`.
    """
    if not isinstance(content, dict):
        return Merged(content, {})
    values = {name: section for name, section in content.items() if name != DEFAULTS}
    defaults = content.get(DEFAULTS, {})
    _check(defaults, values, place)
    origins: dict[KeyPath, str] = {}
    for path, sources in _entries(values, defaults):
        parent = values
        for name in path[:-1]:
            parent[name] = dict(parent[name])
            parent = parent[name]
        parent[path[-1]] = _merge(_kind(path[0]), path, sources, origins)
    return Merged(values, origins)


def _entries(values: dict[str, Any], defaults: dict[str, Any]) -> Iterator[tuple[KeyPath, list[_Source]]]:
    """Yields the path of every entry that is a mapping, with its sources: general defaults, defaults, the entry."""
    for section in (*SHARED, *BY_FAMILY):
        general = defaults.get(section, {})
        for path, own in list(_leaves(values.get(section), _depth(section) - 1, (section,))):
            if section in BY_FAMILY:
                named = [(general[name], f"{DEFAULTS}.{section}.{name}") for name in (ALL, path[-1]) if name in general]
            else:
                named = [(general, f"{DEFAULTS}.{section}")]
            yield path, [*named, (own, ".".join(path))]


def _leaves(value: Any, depth: int, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(value, dict) and depth:
        for name, inner in value.items():
            if isinstance(name, str):
                yield from _leaves(inner, depth - 1, (*path, name))
    elif isinstance(value, dict):
        yield path, value


def _merge(kind: Any, path: KeyPath, sources: list[_Source], origins: dict[KeyPath, str]) -> Any:
    """Merges the sources of the value at `path`; the last source that contains a value is used."""
    kind_of = _members(kind)
    if kind_of is None or not all(isinstance(value, dict) for value, _ in sources):
        value, origins[path] = sources[-1]
        return value
    names = dict.fromkeys(name for value, _ in sources for name in value)
    merged = {}
    for name in names:
        having = [(value[name], origin) for value, origin in sources if name in value]
        merged[name] = _merge(kind_of(name), (*path, str(name)), having, origins)
    return merged


def _members(kind: Any) -> Callable[[str], Any] | None:
    """Returns a function from a key to its type, for mappings that are merged key by key; None for other types."""
    if get_origin(kind) is dict:
        return lambda _: get_args(kind)[1]
    if isinstance(kind, type) and issubclass(kind, Settings):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return fields.get
    return None


def _kind(section: str) -> Any:
    """Returns the type of a section's entries: a model of settings."""
    kind = _FIELDS[section]
    for _ in range(_depth(section) - 1):
        kind = get_args(kind)[1]
    return kind


def _depth(section: str) -> int:
    """Returns the number of names in the path of an entry: section, data set and, in some sections, family."""
    return 3 if section in BY_FAMILY else 2


def _check(defaults: Any, values: dict[str, Any], place: str) -> None:
    known = (*SHARED, *BY_FAMILY)
    if not isinstance(defaults, dict):
        raise InputError(f"{place}: {DEFAULTS}: expected sections with their values, got {short_repr(defaults)}")
    for section, general in defaults.items():
        if section not in known:
            raise InputError(f"{place}: {DEFAULTS}.{section}: no such defaults; choose from: {', '.join(known)}")
        entries = general.items() if section in BY_FAMILY and isinstance(general, dict) else [("", general)]
        for name, entry in entries:
            _check_entry(section, ".".join(filter(None, (DEFAULTS, section, str(name)))), entry, place)
    for section in BY_FAMILY:
        _check_families(section, defaults.get(section, {}), values.get(section), place)


def _check_families(section: str, general: dict[str, Any], entries: Any, place: str) -> None:
    """Raises InputError for defaults of unknown families and for entries with the reserved name.

    Without this check, a misspelt family in `defaults` would be ignored.
    """
    paths = [path for path, _ in _leaves(entries, 2, (section,))]
    if reserved := [path for path in paths if path[-1] == ALL]:
        key = ".".join(reserved[0])
        raise InputError(f"{place}: {key}: '{ALL}' is the defaults' name for every family; name a family")
    for family in general.keys() - {ALL, *(path[-1] for path in paths)}:
        if general[family]:
            key = f"{DEFAULTS}.{section}.{family}"
            raise InputError(
                f"{place}: {key}: no data set of {section} has this family; check the name, or add it there"
            )


def _check_entry(section: str, key: str, entry: Any, place: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{place}: {key}: expected settings, got {short_repr(entry)}; write {{}} for none")
    for name in WATCHED.get(section, ()):
        if name in entry:
            raise InputError(
                f"{place}: {key}.{name}: has no default, because DVC watches this key of each data set; write it in "
                f"the entries of {section}"
            )
