"""Edits the text of `params.yaml`: copies a data set's settings, sets the lists of `run`, keeps every other byte."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from spn4cir.config.defaults import DEFAULTS
from spn4cir.errors import InputError
from spn4cir.projects.set_values import compose, set_values

# Settings that belong to one data set or benchmark and are not copied to another.
OWN = ("annotations", "table", "categories", "tasks", "hub")
# The sections with settings for the reading of folders.
_FOLDERS = ("datasets", "benchmarks")
_Entry = dict[str, tuple[Node, Node]]


@dataclass(frozen=True)
class _Copy:
    """Lines to insert, and the position in the text."""

    position: int
    lines: str


def copy_settings(
    text: str, other: str, name: str, layout: str, place: str, options: Mapping[str, Any] | None = None
) -> str:
    """Copies the entry of `other` to an entry `name` below it, in every section that contains `other`.

    Sections that already contain `name` are unchanged. In `datasets.<name>`, or `benchmarks.<name>`, `layout` and the
    settings of `OWN` get the given values.

    Args:
        text: content of the file.
        other: the data set to copy.
        name: the new data set.
        layout: layout of the new data set.
        place: name of the file, for error messages.
        options: settings of the new data set; the keys are among `OWN`.

    Returns:
        The new content of the file.

    Raises:
        InputError: a section does not have lines of its own for each data set, so that no lines can be copied.
    """
    if not text.endswith("\n"):
        text += "\n"
    copies = [
        _copy_block(text, section, other, name, (layout, options or {}), f"{place}: {key.value}")
        for key, section in _sections(text, place)
        if key.value != DEFAULTS
        and other in (names := [entry.value for entry, _ in section.value])
        and name not in names
    ]
    for copy in reversed(copies):
        text = text[: copy.position] + copy.lines + text[copy.position :]
    return text


def require_given(written: BaseModel, options: Mapping[str, Any], place: str) -> None:
    """Raises InputError if an entry's settings differ from the given options."""
    found = written.model_dump(exclude_none=True)
    for key, given in options.items():
        if found.get(key) != given:
            raise InputError(
                f"{place}.{key} is {_shown(found.get(key))}, not {_shown(given)}; change it there, or choose another "
                "name"
            )


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def set_run(text: str, lists: Mapping[str, Sequence[str]], place: str) -> str:
    """Replaces lists of the section `run`.

    Args:
        text: content of the file.
        lists: the new names, by key of `run`.
        place: name of the file, for error messages.

    Returns:
        The new content of the file.

    Raises:
        InputError: the file has no section `run`, or one of the keys is not a list there.
    """
    run = next((section for key, section in _sections(text, place) if key.value == "run"), None)
    entries = {} if run is None else {key.value: (key, value) for key, value in run.value}
    for name in lists:
        if not isinstance(entries.get(name, (None, None))[1], SequenceNode):
            raise InputError(f"{place}: run.{name}: expected a list; write it as [], then run again")
    return set_values(text, {("run", name): names for name, names in lists.items()}, place)


def _sections(text: str, place: str) -> list[tuple[Node, MappingNode]]:
    return [(key, section) for key, section in compose(text, place).value if isinstance(section, MappingNode)]


def _copy_block(
    text: str, section: MappingNode, other: str, name: str, data: tuple[str, Mapping[str, Any]], place: str
) -> _Copy:
    """Returns the lines of `other`'s entry under the new name, with layout and options (`data`) replaced."""
    if section.flow_style:
        raise InputError(f"{place} is written as {{...}}; give each data set its own line, then run again")
    number = next(i for i, (key, _) in enumerate(section.value) if key.value == other)
    key, value = section.value[number]
    last = number + 1 == len(section.value)
    end = section.end_mark.index if last else section.value[number + 1][0].start_mark.index
    start, end = _line_start(text, key.start_mark.index), _line_start(text, end)
    end = start + len(_without_what_follows(text[start:end], key.start_mark.column))
    changes: list[tuple[Node, str]] = [(key, name)]
    if (entry := _data_entry(value, place)) is not None:
        node = entry["layout"][1]
        if not start <= node.start_mark.index < end:
            raise InputError(f"{place}.{other}: its layout is written elsewhere; write it out in full, then run again")
        changes.extend(_data_changes(entry, value.flow_style, *data))
    lines = text[start:end]
    for node, new in sorted(changes, key=lambda change: -change[0].start_mark.index):
        lines = lines[: node.start_mark.index - start] + new + lines[node.end_mark.index - start :]
    return _Copy(end, lines)


def _data_changes(entry: _Entry, flow: bool, layout: str, options: Mapping[str, Any]) -> list[tuple[Node, str]]:
    """Returns the new values of layout and options; options that the entry lacks are added after the layout."""
    key, node = entry["layout"]
    between = ", " if flow else f"\n{' ' * key.start_mark.column}"
    written = {name: json.dumps(options.get(name), ensure_ascii=False) for name in OWN}
    there = [(entry[name][1], value) for name, value in written.items() if name in entry]
    added = [f"{between}{name}: {value}" for name, value in written.items() if name in options and name not in entry]
    return [(node, "".join([layout, *added])), *there]


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _without_what_follows(lines: str, column: int) -> str:
    """Removes the final blank lines, and final comments that are not indented deeper than the key at `column`."""
    kept = lines.splitlines(keepends=True)
    while kept:
        content = kept[-1].strip()
        depth = len(kept[-1]) - len(kept[-1].lstrip())
        if content and not (content.startswith("#") and depth <= column):
            break
        kept.pop()
    return "".join(kept)


def _data_entry(value: Node, place: str) -> _Entry | None:
    """Returns an entry's key and value nodes, by key, for the sections in `_FOLDERS`; None for other sections."""
    if not place.endswith(tuple(f": {section}" for section in _FOLDERS)):
        return None
    entry = {key.value: (key, inner) for key, inner in value.value} if isinstance(value, MappingNode) else {}
    if not isinstance(entry.get("layout", (None, None))[1], ScalarNode):
        raise InputError(f"{place}: a data set has no layout of its own; write it out in full, then run again")
    return entry
