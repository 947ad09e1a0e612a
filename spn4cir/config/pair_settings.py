"""The settings of one data set and family (a pair), and the entry that contains each value."""

import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

from spn4cir.config.base import Settings
from spn4cir.config.defaults import KeyPath, Merged
from spn4cir.config.params import Params, entry, of_dataset, of_family


def pair_settings(params: Params, dataset: str, family: str) -> dict[KeyPath, Any]:
    """Returns the settings that the stages of a pair read, by path, e.g. `("train", "fiq", "clip", "tau")`.

    Raises InputError if a section has no entry for the data set or family.
    """
    names = ("datasets", "models", "dedup", "caption", "match", "shortcuts", "baselines")
    shared: dict[str, dict[str, Settings]] = {name: getattr(params, name) for name in names}
    by_family = ("triplets", "checkpoint", "bank", "filter", "train", "adjust")
    own: dict[str, Any] = {name: getattr(params, name) for name in by_family}
    own["validate"] = params.validate_
    found: dict[KeyPath, Any] = {("seed",): params.seed}
    for name, section in shared.items():
        found |= {(name, dataset, key): value for key, value in of_dataset(section, dataset, name).model_dump().items()}
    for name, families in own.items():
        settings: Settings = of_family(families, dataset, family, name)
        found |= {(name, dataset, family, key): value for key, value in settings.model_dump().items()}
    words, pool = (found.pop(("caption", dataset, key)) for key in ("words", "pool"))
    captions = "pool" if family in pool else "words"
    found["caption", dataset, captions, family] = entry(words | pool, family, f"caption.{dataset}.words")
    for name, key in (("match", "window"), ("models", "stage1")):
        found[name, dataset, key, family] = entry(found.pop((name, dataset, key)), family, f"{name}.{dataset}.{key}")
    return found


def short_key(path: KeyPath, family: str) -> KeyPath:
    """Returns a path without the names of the data set and family, e.g. `("train", "tau")`."""
    return tuple(name for place, name in enumerate(path) if place != 1 and (name != family or place < 2))


def describe_pair(params: Params, merged: Merged, dataset: str, family: str) -> Iterator[tuple[str, str, str]]:
    """Yields each value of a pair that the file contains: its key, the value as YAML, and the entry that contains it.

    Raises InputError if a section has no entry for the data set or family.
    """
    for path in sorted(pair_settings(params, dataset, family), key=lambda path: list(merged.values).index(path[0])):
        if not _is_written(merged.values, path):
            continue  # an optional key
        for place, value in _leaves(merged, path, reduce(getitem, path, merged.values)):
            origin = merged.origin(place) or ".".join(place[:2])
            yield ".".join(short_key(place, family)), json.dumps(value, ensure_ascii=False), origin


def _is_written(values: Any, path: KeyPath) -> bool:
    for name in path:
        if name not in values:
            return False
        values = values[name]
    return True


def _leaves(merged: Merged, path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """Yields the value, or the values inside it if it was merged key by key."""
    if isinstance(value, dict) and value and merged.origin(path) is None and merged.origin((*path, next(iter(value)))):
        for name, inner in value.items():
            yield from _leaves(merged, (*path, name), inner)
    else:
        yield path, value
