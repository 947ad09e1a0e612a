"""Reads settings from a file, from the nearest project, or from the file that the package ships."""

import os
import sys
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.config.base import short_repr
from spn4cir.config.consistency import conflicts
from spn4cir.config.defaults import BY_FAMILY, DEFAULTS, SHARED, WATCHED, KeyPath, Merged, merge_defaults
from spn4cir.config.params import PARAMS_FILE, Params
from spn4cir.errors import InputError, first_line
from spn4cir.readable import check_text_file

PACKAGE = Path(__file__).parents[1]
_SHOWN = 5


def parse_params(text: str, place: str) -> Params:
    """Parses the settings in `text` and merges the defaults.

    Raises InputError, which names the first invalid keys with their values, or the contradictory settings.
    """
    return parse_merged(text, place)[0]


def parse_merged(text: str, place: str) -> tuple[Params, Merged]:
    """Parses settings like `parse_params`, with its errors, and also returns the entry that contains each value."""
    merged = merge_defaults(_parse_yaml(text, place), place)
    try:
        params = Params.model_validate(merged.values)
    except ValidationError as error:
        raise InputError(f"{place}: {_explain(error, merged)}") from None
    if found := list(conflicts(params)):
        raise InputError(f"{place}: {'; '.join(found[:_SHOWN])}")
    return params, merged


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """The content of a YAML file, for `_loaded`, as a command reads the same file several times.

    Parsing `params.yaml` takes 35 ms, and four times as long without libyaml; a copy takes 1 ms.
    """
    return YAML(typ="safe").load(text)


def _loaded(text: str) -> Any:
    """The content of a YAML file, which the caller may change."""
    try:
        return deepcopy(_parsed(text))
    except RecursionError:  # it may have more levels than can be copied
        return YAML(typ="safe").load(text)


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return _loaded(text)
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise InputError(f"{place}:{line} is not valid YAML ({getattr(error, 'problem', error)}); correct it") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:  # of a value: a date, a tag
        raise InputError(f"{place}: is not valid YAML ({first_line(error)}); correct it") from None


def _explain(error: ValidationError, merged: Merged) -> str:
    """Returns the problems as one line, without repetitions: an invalid default can affect several data sets.

    Unknown keys come first, because a misspelt key also causes a missing one.
    """
    items = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    found = [_find(item, merged.values) for item in items]
    forms: dict[KeyPath, set[str]] = {}
    for place in found:
        if place.form:
            forms.setdefault(place.around, set()).add(place.form)
    problems = dict.fromkeys(
        _unfit(place.around, merged)
        if len(forms.get(place.around, ())) > 1
        else _problem(item, tuple(map(str, place.path)), merged)
        for item, place in zip(items, found, strict=True)
        if not _follows(item, place, found)
    )
    return "; ".join(list(problems)[:_SHOWN])


def _follows(item: ErrorDetails, place: "_Place", found: Sequence["_Place"]) -> bool:
    """Returns whether a list is too short only because entries of it are invalid."""
    size = len(place.path)
    return item["type"] == "too_short" and any(
        len(each.path) > size and each.path[:size] == place.path for each in found
    )


class _Place(NamedTuple):
    """The place of a problem.

    Attributes:
        path: path of the value.
        form: the form, of several, that the value was parsed as (`HubModel`, `tuple[int, int]`); empty if there is one.
        around: path of the value that has several forms.
    """

    path: tuple[Any, ...]
    form: str
    around: tuple[Any, ...]


def _find(item: ErrorDetails, values: Any) -> _Place:
    """Finds the place of a problem. Pydantic lists forms among the keys; the content has no key of that name."""
    path: list[Any] = []
    form, around = "", ()
    for place, part in enumerate(item["loc"], 1):
        if part in (values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()):
            values = values[part]
            path.append(part)
        elif item["type"] == "missing" and place == len(item["loc"]):
            path.append(part)
        else:
            form, around = str(part), tuple(path)
    return _Place(tuple(path), form, around)


def _unfit(path: tuple[Any, ...], merged: Merged) -> str:
    got = short_repr(reduce(getitem, path, merged.values))
    key = merged.written(tuple(map(str, path)))
    return f"{key}: has none of the forms in docs/settings.md (got {got}); choose one"


def _problem(item: ErrorDetails, path: KeyPath, merged: Merged) -> str:
    key = merged.written(path) if path else ""
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; check its spelling"
    if item["type"] == "missing":
        is_whole = merged.origin(path) is not None  # it is part of a value that is replaced whole
        return f"{key}: is missing; add it{'' if is_whole else _or_default(path)}"
    if item["type"] == "model_type" and item["input"] is None and len(path) > 1:
        return f"{key}: is empty; write {{}} if nothing differs from the defaults"
    said = item["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list").replace("Tuple", "List")
    if item["type"].startswith("union_tag"):
        said = f"expected {item['ctx'].get('expected_tags', 'a value')} as {item['ctx']['discriminator']}"
    is_section = item["type"] == "value_error" and isinstance(item["input"], dict)  # the error names its keys
    return f"{key}: {said}" + ("" if is_section else f" (got {short_repr(item['input'])})") if key else said


def _or_default(path: tuple[str, ...]) -> str:
    """Returns advice to add a default for a missing value; empty if the value cannot have a default."""
    names = 3 if path[0] in BY_FAMILY else 2
    if path[0] not in (*BY_FAMILY, *SHARED) or len(path) <= names or path[names] in WATCHED.get(path[0], ()):
        return ""
    return f", or {'.'.join((DEFAULTS, path[0], *path[2:]))} for every data set"


def load_params(path: Path = Path(PARAMS_FILE)) -> Params:
    """Reads the settings of a file. Raises InputError if it is absent or contains an invalid value."""
    return parse_params(_read(path), str(path))


def _read(path: Path) -> str:
    check_text_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run from the folder that contains it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as such") from None


def find_params(start: Path) -> Params:
    """Returns the settings of the nearest project at or above `start`, or else those that the package ships."""
    return find_merged(start)[0]


def find_merged(start: Path) -> tuple[Params, Merged]:
    """Returns the settings like `find_params`, and the entry that contains each value.

    Raises InputError for a project file that cannot be read or contains an invalid value.
    """
    project = find_project(start)
    if project is None:
        path = published_file()
        return parse_merged(_read(path), f"the package's {PARAMS_FILE} ({path})")
    path = project / PARAMS_FILE
    return parse_merged(_read(path), str(path))


def find_project(start: Path) -> Path | None:
    """Returns the nearest folder at or above `start` that contains settings of this package; None if there is none.

    Other programs also use a `params.yaml`. A file without the section `datasets` is skipped. A file above `start` that
    is not valid YAML, e.g. a template, is skipped with a warning.
    """
    for folder in (start, *start.parents):
        path = folder / PARAMS_FILE
        if os.path.lexists(path) and not _is_foreign(path, above=folder != start):
            return folder
    return None


def _is_foreign(path: Path, above: bool) -> bool:
    try:
        content = _parse_yaml(_read(path), str(path))
    except InputError as error:
        if not above:
            raise
        print(f"warning: skipped: {error}", file=sys.stderr)
        return True
    return isinstance(content, dict) and "datasets" not in content


def published_file(package: Path = PACKAGE) -> Path:
    """Returns the published `params.yaml`, which a wheel contains in the package and the repository beside it."""
    shipped = package / PARAMS_FILE
    return shipped if shipped.is_file() else package.parent / PARAMS_FILE
