"""Writes the settings of a named recipe to `params.yaml`."""

from collections.abc import Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from spn4cir.config.defaults import merge_defaults
from spn4cir.config.load import parse_merged
from spn4cir.config.params import of_dataset
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.projects.named_recipes import AS_PUBLISHED, published_values, recipe_settings, setting_path
from spn4cir.projects.project import change_folder
from spn4cir.projects.set_values import KeyPath, remove_values, set_values


class ChangedSetting(NamedTuple):
    """A setting that a recipe changes: its key path, and its values before and after."""

    path: KeyPath
    before: Any
    after: Any


class AppliedRecipe(NamedTuple):
    """The content of `params.yaml` with a recipe.

    Attributes:
        text: the new content.
        changes: the settings that have other values than before; empty if the content already had the recipe.
        kept: settings whose published value is unknown for this data set; they keep their values.
        families: the families that the recipe was applied to.
        is_run: whether `dvc repro` runs the data set with one of the families.
    """

    text: str
    changes: tuple[ChangedSetting, ...]
    kept: tuple[KeyPath, ...]
    families: tuple[str, ...]
    is_run: bool


def apply_recipe(text: str, place: str, recipe: str, dataset: str, family: str | None) -> AppliedRecipe:
    """Applies a recipe to a data set, and keeps every other byte of the file.

    A key that has its new value by default is removed from the entry of the data set.

    Args:
        text: content of `params.yaml`.
        place: name of the file, for error messages.
        recipe: name of the recipe.
        dataset: name of the data set.
        family: model family; None for all families of the data set.

    Raises:
        InputError: the file is not valid, the recipe, the data set or the family is unknown, or another section has no
            entry for the family.
    """
    params, merged = parse_merged(text, place)
    known = of_dataset(params.train, dataset, "train")
    if family is not None and family not in known:
        raise InputError(
            f"{place}: train.{dataset} has no entry for family '{family}'; choose one of: {', '.join(known)}"
        )
    families = tuple(known) if family is None else (family,)
    changes, kept = changed_settings(merged.values, place, recipe, dataset, families)
    new = _write(text, changes, place)
    parse_merged(new, place)  # a recipe may contradict other settings
    is_run = dataset in params.run.datasets and bool(set(families) & set(params.run.models))
    return AppliedRecipe(new, changes, kept, families, is_run)


def changed_settings(
    values: Any, place: str, recipe: str, dataset: str, families: Sequence[str]
) -> tuple[tuple[ChangedSetting, ...], tuple[KeyPath, ...]]:
    """Compares settings with a recipe.

    Args:
        values: the content of `params.yaml` with complete entries.
        place: name of the file, for error messages.
        recipe: name of the recipe.
        dataset: name of the data set.
        families: families of the data set.

    Returns:
        The settings that have other values in the recipe, and those whose published value is unknown for the data set.

    Raises:
        InputError: the recipe is unknown, or a section has no entry for a family.
    """
    changes, kept = [], []
    for family in families:
        published = published_values(dataset, family)
        for key, wanted in recipe_settings(recipe, family).items():
            path = setting_path(key, dataset, family)
            before = _value(values, path, place)
            if wanted == AS_PUBLISHED and key not in published:
                kept.append(path)
                continue
            after = published[key] if wanted == AS_PUBLISHED else wanted
            if before != after:
                changes.append(ChangedSetting(path, before, after))
    return tuple(changes), tuple(kept)


def _value(values: Any, path: KeyPath, place: str) -> Any:
    try:
        return reduce(getitem, path, values)
    except KeyError:
        key = ".".join(path)
        raise InputError(f"{place}: {key} is not set; add it, or choose other families with --family") from None


def _write(text: str, changes: Sequence[ChangedSetting], place: str) -> str:
    """Sets the new values, and removes keys that have them by default."""
    content = YAML(typ="safe").load(text)
    for change in changes:
        *around, name = change.path
        reduce(lambda section, key: section.get(key, {}), around, content).pop(name, None)
    defaults = merge_defaults(content, place).values
    removed = [change.path for change in changes if _has(defaults, change.path, change.after)]
    wanted = {change.path: change.after for change in changes if change.path not in removed}
    return remove_values(set_values(text, wanted, place), removed, place)


def _has(values: Any, path: KeyPath, value: Any) -> bool:
    try:
        return bool(reduce(getitem, path, values) == value)
    except KeyError:
        return False


def write_recipe(path: Path, applied: AppliedRecipe) -> None:
    """Writes the new content of `params.yaml`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(applied.text.encode())


def run_lines(project: Path, dataset: str, applied: AppliedRecipe) -> Sequence[str]:
    """Returns the command that trains with the settings of `params.yaml`."""
    lists = f" -S 'run.datasets=[{dataset}]' -S 'run.models=[{','.join(applied.families)}]' -S 'run.submit=[]'"
    call = "dvc repro" if applied.is_run else f"dvc exp run{lists}"
    return ["", "Next:", *change_folder(project), f"  {call}"]
