"""Reading settings: a file's, those of the file in reach, or the published ones."""

import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.errors import InputError
from spn4cir.params import PARAMS_FILE, Params


def parse_params(text: str, place: str) -> Params:
    """The settings in `text`. Raises InputError that names the first bad key and its value."""
    try:
        return Params.model_validate(_parse_yaml(text, place))
    except ValidationError as error:
        raise InputError(f"{place}: {_explain(error)}") from None


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise InputError(f"{place}:{line} is not valid YAML ({getattr(error, 'problem', error)}); mend it") from None


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            problems.append(f"{key}: unknown key; check its spelling")
        elif item["type"] == "missing":
            problems.append(f"{key}: is missing; add it")
        else:
            said = item["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {said} (got {_short(item['input'])})" if key else said)
    return "; ".join(problems[:5])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def load_params(path: Path = Path(PARAMS_FILE)) -> Params:
    """The settings of a file. Raises InputError when it is absent or holds a bad value."""
    return parse_params(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run from the folder that holds it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as such") from None


def find_params(start: Path) -> Params:
    """The settings in reach of `start`, else the published ones of the package. Errors are those of `find_project`."""
    project = find_project(start)
    return published_params() if project is None else load_params(project / PARAMS_FILE)


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
    package = resources.files("spn4cir")
    shipped = package / PARAMS_FILE
    source = shipped if shipped.is_file() else Path(str(package)).parent / PARAMS_FILE
    return parse_params(source.read_text(encoding="utf-8"), f"the package's {PARAMS_FILE}")
