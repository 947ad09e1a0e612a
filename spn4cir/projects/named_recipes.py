"""Named recipes: settings of a training that belong together, e.g. the published ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from spn4cir.config.defaults import BY_FAMILY
from spn4cir.errors import InputError
from spn4cir.projects.set_values import KeyPath

RECIPES_FILE = Path(__file__).with_name("named_recipes.yaml")
PUBLISHED_FILE = Path(__file__).with_name("published_values.yaml")
# The recipe that contains the published value of every key.
PUBLISHED = "paper"
# The value of a key whose published value depends on the data set.
AS_PUBLISHED = "as published"
_ALL = "all"
# Keys with a value for each family in a section that has one entry for each data set.
_WITH_FAMILY_LAST = frozenset({"match.window", "caption.words", "caption.pool"})


def recipe_settings(name: str, family: str) -> dict[str, Any]:
    """Returns every setting that a recipe decides for a family, by keys such as `train.negatives`.

    Settings that the recipe does not name have the published values.

    Raises InputError for an unknown recipe.
    """
    recipes = _read()
    if name not in recipes:
        raise InputError(f"recipe '{name}' is unknown; choose one of: {', '.join(recipes)}")
    return _of_family(recipes[PUBLISHED], family) | _of_family(recipes[name], family)


def published_values(dataset: str, family: str) -> dict[str, Any]:
    """Returns the published values of the keys that are `as published` in a recipe, by keys such as `match.window`.

    They do not come from `params.yaml`: in a clone of the repository a recipe edits the published file itself.

    Returns:
        The values; none for a data set or a family without published values.
    """
    return _of_family(_load(PUBLISHED_FILE).get(dataset, {}), family)


def setting_path(key: str, dataset: str, family: str) -> KeyPath:
    """Returns the path in `params.yaml` of a key such as `train.negatives`, `match.window` or `shortcuts.enabled`."""
    section, *rest = key.split(".")
    if section in BY_FAMILY:
        return (section, dataset, family, *rest)
    return (section, dataset, *rest, family) if key in _WITH_FAMILY_LAST else (section, dataset, *rest)


def _of_family(recipe: Mapping[str, Mapping[str, Any]], family: str) -> dict[str, Any]:
    return {**recipe.get(_ALL, {}), **recipe.get(family, {})}


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    return _load(RECIPES_FILE)


def _load(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    content: dict[str, dict[str, dict[str, Any]]] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return content
