"""Edits of the text of `params.yaml`: a data set's settings copied, the lists of `run` set; every other byte stays."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from spn4cir.config.defaults import DEFAULTS
from spn4cir.errors import InputError

# Settings of a data set or benchmark that another one's are not copied to.
OWN = ("annotations", "table", "categories", "tasks", "hub")
# The sections whose entries say how a folder is read.
_FOLDERS = ("datasets", "benchmarks")
_Entry = dict[str, tuple[Node, Node]]


@dataclass(frozen=True)
class _Copy:
    """Lines to insert, and where."""

    position: int
    lines: str


def copy_settings(
    text: str, other: str, name: str, layout: str, place: str, options: Mapping[str, Any] | None = None
) -> str:
    """The text with `other`'s block repeated under `name` below it, in every section that holds one.

    Sections that hold `name` already stay as they are. `datasets.<name>.layout` becomes `layout`, and the settings of
    `OWN` there what is given; so does a benchmark's entry.

    Args:
        text: the file's content.
        other: the data set to copy.
        name: the new data set.
        layout: its layout.
        place: the file's name, for errors.
        options: those settings of the new data set, each of `OWN`.

    Raises:
        InputError: a section is not written with one line or more a data set, so that no line can be copied.
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
    """Raises InputError where the settings of an entry are other than the options that were given."""
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
    """The text with lists of the section `run` replaced.

    Args:
        text: the file's content.
        lists: the new names, by the key below `run`.
        place: the file's name, for errors.

    Raises:
        InputError: the file has no section `run`, or one of the keys is not a list there.
    """
    run = next((section for key, section in _sections(text, place) if key.value == "run"), None)
    entries = {} if run is None else {key.value: (key, value) for key, value in run.value}
    for name in lists:
        if not isinstance(entries.get(name, (None, None))[1], SequenceNode):
            raise InputError(f"{place}: run.{name}: expected a list; write it as [], then run again")
    nodes = sorted((entries[name] for name in lists), key=lambda node: -node[0].start_mark.index)
    for key, value in nodes:
        text = f"{text[: key.end_mark.index]}: [{', '.join(lists[key.value])}]{text[_content_end(value) :]}"
    return text


def _content_end(node: Node) -> int:
    """Where the content of a node ends; the mark of one that is written a line an item is behind what follows it."""
    while isinstance(node, SequenceNode | MappingNode) and not node.flow_style and node.value:
        node = node.value[-1] if isinstance(node, SequenceNode) else node.value[-1][1]
    end: int = node.end_mark.index
    return end


def _sections(text: str, place: str) -> list[tuple[Node, MappingNode]]:
    try:
        root = YAML().compose(text)
    except YAMLError as error:
        raise InputError(f"{place}: is not valid YAML ({getattr(error, 'problem', error)}); correct it") from None
    if not isinstance(root, MappingNode):
        raise InputError(f"{place}: holds no sections; take the params.yaml of this project")
    return [(key, section) for key, section in root.value if isinstance(section, MappingNode)]


def _copy_block(
    text: str, section: MappingNode, other: str, name: str, data: tuple[str, Mapping[str, Any]], place: str
) -> _Copy:
    """The lines of `other`'s entry with the name, and where it has them layout and settings (`data`), replaced."""
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
    """The layout's new value, and those of the options: after it where the entry has no such key yet."""
    key, node = entry["layout"]
    between = ", " if flow else f"\n{' ' * key.start_mark.column}"
    written = {name: json.dumps(options.get(name), ensure_ascii=False) for name in OWN}
    there = [(entry[name][1], value) for name, value in written.items() if name in entry]
    added = [f"{between}{name}: {value}" for name, value in written.items() if name in options and name not in entry]
    return [(node, "".join([layout, *added])), *there]


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _without_what_follows(lines: str, column: int) -> str:
    """Without the final blank lines, and comments there that are indented no deeper than the key at `column`."""
    kept = lines.splitlines(keepends=True)
    while kept:
        content = kept[-1].strip()
        depth = len(kept[-1]) - len(kept[-1].lstrip())
        if content and not (content.startswith("#") and depth <= column):
            break
        kept.pop()
    return "".join(kept)


def _data_entry(value: Node, place: str) -> _Entry | None:
    """Keys and values of an entry of the sections of folders, by key; None in other sections."""
    if not place.endswith(tuple(f": {section}" for section in _FOLDERS)):
        return None
    entry = {key.value: (key, inner) for key, inner in value.value} if isinstance(value, MappingNode) else {}
    if not isinstance(entry.get("layout", (None, None))[1], ScalarNode):
        raise InputError(f"{place}: a data set has no layout of its own; write it out in full, then run again")
    return entry
