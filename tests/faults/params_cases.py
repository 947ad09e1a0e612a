"""Settings with a fault: every key of `params.yaml` with wrong values, and files that are not YAML."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spn4cir.config.load import parse_merged, published_file
from spn4cir.config.params import Params
from tests.faults.annotation_cases import NOT_TEXT
from tests.faults.attempts import PASSWORD, Case
from tests.faults.places import Place, spoil

KIND = "params"
_DATASET, _FAMILIES = "demo_fiq", ("clip", "blip2")
# JSON has no words for these; YAML's replace them.
_YAML = {'"@nan"': ".nan", '"@inf"': ".inf"}
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "text": "many",
    "negative": -1,
    "huge": 10**400,
    "not a number": "@nan",
    "infinite": "@inf",
    "a list": [[1]],
    "a mapping": {"a": {"b": 1}},
}


@cache
def settings_of_a_pair() -> dict[str, Any]:
    """Returns the published settings of one data set and two families, with all defaults written out."""
    values = parse_merged(published_file().read_text(encoding="utf-8"), "params.yaml")[1].values

    def kept(section: Any, names: Sequence[str]) -> Any:
        return {name: value for name, value in section.items() if name in names}

    found = {}
    for name, section in values.items():
        if isinstance(section, dict) and _DATASET in section:
            section = kept(section, [_DATASET])
            if set(_FAMILIES) <= section[_DATASET].keys():
                section = {_DATASET: kept(section[_DATASET], _FAMILIES)}
        found[name] = kept(section, ["circo"]) if name == "benchmarks" else section
    found["run"] = {"datasets": [_DATASET], "models": ["clip"], "submit": [], "benchmarks": []}
    return found


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, value


def changed(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Returns the settings with another value at a path."""
    whole: dict[str, Any] = json.loads(json.dumps(settings_of_a_pair()))
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return whole


def _text(settings: dict[str, Any]) -> str:
    text = json.dumps(settings)
    for word, value in _YAML.items():
        text = text.replace(word, value)
    return text


def _command(text: str | Callable[[Path], object], place: Place) -> Sequence[object]:
    file = place.work / "params.yaml"
    spoil(file, text if isinstance(text, str) else _text(settings_of_a_pair()))
    if not isinstance(text, str):
        text(file)
    return "settings", _DATASET, _FAMILIES[0]


def _is_refused(path: Sequence[str], value: Any, present: Any) -> bool:
    """Whether a value is of the wrong type for a number, or the model of the settings refuses it."""
    words = {"@nan": float("nan"), "@inf": float("inf")}
    if type(present) in (int, float) and type(value) not in (int, float, type(None)):
        return True
    try:
        Params.model_validate(changed(path, words.get(value, value) if isinstance(value, str) else value))
    except ValidationError:
        return True
    return False


def _key_cases() -> Iterator[Case]:
    seen = set()
    for path, present in leaves(settings_of_a_pair()):
        key = tuple(name for name in path if name not in (_DATASET, *_FAMILIES))
        if key in seen:
            continue
        seen.add(key)
        for name, value in VALUES.items():
            if _is_refused(path, value, present):
                text = _text(changed(path, value))
                yield Case(KIND, f"{'.'.join(key)} is {name}", partial(_command, text), rf"params\.yaml: .*{path[-1]}")
        beside = (*path[:-1], "unknwon")
        if len(path) > 1 and _is_refused(beside, 1, None):  # families have names of any kind
            text = _text(changed(beside, 1))
            words = r"params\.yaml: .*(unknwon|has none of the forms)"
            yield Case(
                KIND, f"{'.'.join(key[:-1])} has an unknown key beside {key[-1]}", partial(_command, text), words
            )


def _bomb() -> str:
    """Returns aliases of aliases: 10 lines that stand for 10 ** 9 values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join([*lines, "datasets: *a9"])


_FILES: dict[str, str] = {
    "empty": "",
    "a text": "datasets",
    "a list": "[datasets]",
    "a web page": "<!doctype html><title>404</title>",
    "indented by tabs": "datasets:\n\ta: 1",
    "two documents": "datasets: {}\n---\ndatasets: {}",
    "with a key twice": "datasets: {}\ndatasets: {}",
    "with a key that is a number": "datasets: {}\n1: 2",
    "with a key that is null": "datasets: {}\nnull: 2",
    "with a key that is a list": "datasets: {}\n? [a]\n: 2",
    "with an unknown alias": "datasets: *a",
    "with an alias of itself": "datasets: &a {b: *a}",
    "with a list of itself": "datasets: &a [*a]",
    "with a bomb of aliases": _bomb(),
    "with a bomb below defaults": f"{_bomb()}\ndefaults: *a9",
    "with an object of Python": "datasets: !!python/object/apply:os.system [touch ran]",
    "with a date that does not exist": "datasets: 2020-13-45",
    "with a number that is none": "datasets: !!int many",
    "with a fraction that is none": "datasets: !!float many",
    "with bytes that are none": "datasets: !!binary '?'",
    "with a set": "datasets: !!set {a, b}",
    "with a merge of a number": "datasets: {<<: 1}",
    "with a number of 10,000 digits": f"datasets: {'9' * 10_000}",
    "nested 5,000 times": "datasets: " + "[" * 5_000 + "]" * 5_000,
    "with an open quote": 'datasets: "a',
    "with a control character": "datasets: \x07",
    "with half a character": 'datasets: "\\ud83d"',
    "with a text of two lines as a key": 'datasets: {}\n"a\\nb": 1',
}


_ENDPOINTS = (f"http://user:{PASSWORD}@a/v1", f"http://user:{PASSWORD}@a:x/v1", f"ftp://user:{PASSWORD}@a/v1")


def _endpoint_cases() -> Iterator[Case]:
    for url in _ENDPOINTS:
        text = _text(changed(("machine", "endpoints"), {"a": [url]}))
        words = r"params\.yaml: machine\.endpoints\.a"
        yield Case(KIND, f"machine.endpoints has {url}", partial(_command, text), words)


def cases() -> list[Case]:
    """Returns the cases of settings."""
    files = [Case(KIND, f"is {name}", partial(_command, text), r"params\.yaml") for name, text in _FILES.items()]
    kinds = [Case(KIND, f"is {name}", partial(_command, change), r"params\.yaml") for name, change in NOT_TEXT.items()]
    return [*_key_cases(), *files, *kinds, *_endpoint_cases()]
