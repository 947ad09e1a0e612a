"""Reading settings: a file's, those of the file in reach, or the published ones."""

import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.config.consistency import conflicts
from spn4cir.config.defaults import BY_FAMILY, DEFAULTS, SHARED, WATCHED, Merged, merge_defaults
from spn4cir.config.params import PARAMS_FILE, Params
from spn4cir.errors import InputError

_SHOWN = 5


def parse_params(text: str, place: str) -> Params:
    """The settings in `text`, defaults merged.

    Raises InputError that names the first bad keys with their values, as they are written, or the settings that
    contradict each other.
    """
    return parse_merged(text, place)[0]


def parse_merged(text: str, place: str) -> tuple[Params, Merged]:
    """The settings in `text`, and the entry that each value comes from. Raises InputError as `parse_params` does."""
    merged = merge_defaults(_parse_yaml(text, place), place)
    try:
        params = Params.model_validate(merged.values)
    except ValidationError as error:
        raise InputError(f"{place}: {_explain(error, merged)}") from None
    if found := list(conflicts(params)):
        raise InputError(f"{place}: {'; '.join(found[:_SHOWN])}")
    return params, merged


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise InputError(f"{place}:{line} is not valid YAML ({getattr(error, 'problem', error)}); mend it") from None


def _explain(error: ValidationError, merged: Merged) -> str:
    """The problems in a line, each once: a default that is wrong is one mistake, however many data sets take it."""
    problems = dict.fromkeys(_problem(item, merged) for item in error.errors())
    return "; ".join(list(problems)[:_SHOWN])


def _problem(item: ErrorDetails, merged: Merged) -> str:
    path = tuple(map(str, item["loc"]))
    key = merged.written(path) if path else ""
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; check its spelling"
    if item["type"] == "missing":
        return f"{key}: is missing; add it{_or_default(path)}"
    if item["type"] == "model_type" and item["input"] is None and len(path) > 1:
        return f"{key}: is empty; write {{}} where nothing differs from the defaults"
    said = item["msg"].removeprefix("Value error, ")
    return f"{key}: {said} (got {_short(item['input'])})" if key else said


def _or_default(path: tuple[str, ...]) -> str:
    """The default that could give a value that is missing; "" where there is none."""
    names = 3 if path[0] in BY_FAMILY else 2
    if path[0] not in (*BY_FAMILY, *SHARED) or len(path) <= names or path[names] in WATCHED.get(path[0], ()):
        return ""
    return f", or {'.'.join((DEFAULTS, path[0], *path[2:]))} for every data set"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def load_params(path: Path = Path(PARAMS_FILE)) -> Params:
    """The settings of a file. Raises InputError when it is absent or contains a bad value."""
    return parse_params(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run from the folder that holds it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as such") from None


def find_params(start: Path) -> Params:
    """The settings in reach of `start`, as `find_merged` finds them."""
    return find_merged(start)[0]


def find_merged(start: Path) -> tuple[Params, Merged]:
    """The settings in reach of `start`, else the published ones of the package; and where each value comes from.

    Errors are those of `find_project` and `load_params`.
    """
    project = find_project(start)
    if project is None:
        return parse_merged(*_published())
    path = project / PARAMS_FILE
    return parse_merged(_read(path), str(path))


def find_project(start: Path) -> Path | None:
    """The folder of the settings in reach of `start`: this one or the nearest above it; None where there is none.

    Many programs read a `params.yaml`: one without the section `datasets` is another program's and is passed over. So
    is, with a warning, one above `start` that is no YAML, such as a template.
    """
    for folder in (start, *start.parents):
        path = folder / PARAMS_FILE
        if path.is_file() and not _is_foreign(path, above=folder != start):
            return folder
    return None


def _is_foreign(path: Path, above: bool) -> bool:
    try:
        content = _parse_yaml(_read(path), str(path))
    except InputError as error:
        if not above:
            raise
        print(f"warning: passed over: {error}", file=sys.stderr)
        return True
    return isinstance(content, dict) and "datasets" not in content


def published_params() -> Params:
    """The settings that the package ships: the `params.yaml` of the repository it was built from."""
    return parse_params(*_published())


def _published() -> tuple[str, str]:
    """The text of the file that the package ships, and what errors call it."""
    package = resources.files("spn4cir")
    shipped = package / PARAMS_FILE
    source = shipped if shipped.is_file() else Path(str(package)).parent / PARAMS_FILE
    return source.read_text(encoding="utf-8"), f"the package's {PARAMS_FILE}"
