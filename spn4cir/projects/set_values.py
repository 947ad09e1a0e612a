"""Sets and removes single values in the text of `params.yaml`, and keeps every other byte."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from spn4cir.errors import InputError

KeyPath = tuple[str, ...]
# Start and end of a part of the text, and what replaces it.
Edit = tuple[int, int, str]
# Texts that YAML reads as the text itself, unless it is one of the words.
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
_COMMA = re.compile(r"\s*,[ \t]*")
_INDENT = 2


def set_values(text: str, values: Mapping[KeyPath, Any], place: str) -> str:
    """Replaces values, and adds those that are absent.

    Args:
        text: content of the file.
        values: the new values, by key path, e.g. `("train", "fiq", "clip", "epochs")`.
        place: name of the file, for error messages.

    Returns:
        The new content of the file.

    Raises:
        InputError: the file is not a YAML mapping, or a key path leads through a value that is no mapping or that is
            written elsewhere in the file (an alias).
    """
    remaining = list(values.items())
    while remaining:
        edits = _separate_edits(text, remaining, place)
        for start, end, written in sorted(edits, reverse=True):
            text = f"{text[:start]}{written}{text[end:]}"
        remaining = remaining[len(edits) :]
    return text


def remove_values(text: str, paths: Iterable[KeyPath], place: str) -> str:
    """Removes keys with their values; a mapping without keys is `{}`.

    Args:
        text: content of the file.
        paths: the key paths; absent ones are ignored.
        place: name of the file, for error messages.

    Returns:
        The new content of the file.

    Raises:
        InputError: the file is not a YAML mapping, or a key path leads through a value that is written elsewhere in the
            file (an alias).
    """
    root = compose(text, place)
    for path in paths:
        if (changed := _remove(text, root, path, place)) != text:
            text, root = changed, compose(changed, place)
    return text


def compose(text: str, place: str) -> MappingNode:
    """Returns the root node of a YAML file. Raises InputError if the file is not a YAML mapping."""
    try:
        root = _composed(text)
    except YAMLError as error:
        raise InputError(f"{place}: is not valid YAML ({getattr(error, 'problem', error)}); correct it") from None
    if not isinstance(root, MappingNode):
        raise InputError(f"{place}: contains no sections; use the params.yaml of this project")
    return root


@lru_cache(maxsize=4)
def _composed(text: str) -> Node | None:
    """The nodes of a file, which nothing changes: a command composes a text again that it has just written."""
    root: Node | None = YAML().compose(text)
    return root


def _separate_edits(text: str, values: Sequence[tuple[KeyPath, Any]], place: str) -> list[Edit]:
    """Returns the edits of the first values, up to one that depends on the text that another one writes."""
    root, edits = compose(text, place), list[Edit]()
    for path, value in values:
        try:
            start, end, written = _edit(text, root, path, value, place)
        except InputError:
            if not edits:
                raise
            break
        if any(start <= other_end and other_start <= end for other_start, other_end, _ in edits):
            break
        edits.append((start, end, written))
    return edits


def _edit(text: str, node: Node, path: KeyPath, value: Any, place: str) -> Edit:
    indent = 0
    for depth, name in enumerate(path):
        if not isinstance(node, MappingNode):
            raise InputError(f"{place}: {'.'.join(path[:depth])}: expected keys with values; write it as {{}}")
        number = _number(node, name)
        if number is None:
            added = _nested(path[depth:], value)
            if _is_list_of_quoted(value) and not node.value and indent:
                return len(text[: node.start_mark.index].rstrip()), node.end_mark.index, _block(added, indent)
            return _insert(text, node, name, added[name])
        indent = 0 if node.flow_style else node.start_mark.column + _INDENT
        key, node = _entry(node, number, path, place)
    written = _block(value, indent) if indent and _is_list_of_quoted(value) else f" {_flow(value)}"
    return key.end_mark.index, _content_end(node), f":{written}"


def _number(node: MappingNode, name: str) -> int | None:
    return next((number for number, (key, _) in enumerate(node.value) if key.value == name), None)


def _entry(node: MappingNode, number: int, path: KeyPath, place: str) -> tuple[Node, Node]:
    """Returns a key and its value. Raises InputError if the value is an alias."""
    key, value = node.value[number]
    if value.start_mark.index < key.end_mark.index:
        raise InputError(f"{place}: {'.'.join(path)}: is written elsewhere; write it out in full, then run again")
    return key, value


def _remove(text: str, node: Node, path: KeyPath, place: str) -> str:
    steps: list[tuple[MappingNode, int]] = []
    for name in path:
        if not isinstance(node, MappingNode) or (number := _number(node, name)) is None:
            return text
        steps.append((node, number))
        _, node = _entry(node, number, path, place)
    *above, (around, number) = steps
    if around.flow_style:
        return _remove_flow(text, around, number)
    if above and len(around.value) == 1:
        start = above[-1][0].value[above[-1][1]][0].end_mark.index
        comments = text[start : around.start_mark.index].rstrip().removeprefix(":")
        return f"{text[:start]}: {{}}{comments}{text[_content_end(node) :]}"
    return _remove_block(text, *around.value[number])


def _remove_flow(text: str, node: MappingNode, number: int) -> str:
    """Removes an entry of `{...}` with the comma before it, or the one after it if it is the first one."""
    key, value = node.value[number]
    start, end = key.start_mark.index, _content_end(value)
    before = node.value[number - 1][1].end_mark.index if number else start
    if number and "#" not in text[before:start]:
        return text[:before] + text[end:]
    comma = _COMMA.match(text, end)
    return text[:start] + text[comma.end() if comma else end :]


def _remove_block(text: str, key: Node, value: Node) -> str:
    """Removes the lines of an entry; a comment behind the value stays."""
    start, end = key.start_mark.index, _content_end(value)
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if comment := text[end:line_end].strip():
        return f"{text[:start]}{comment}{text[line_end:]}"
    return text[:line_start] + text[line_end + 1 :]


def _nested(path: KeyPath, value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _insert(text: str, node: MappingNode, name: str, value: Any) -> Edit:
    """Adds an entry after the last one of a mapping."""
    entry = f"{name}: {_flow(value)}"
    if node.flow_style or not node.value:
        end = node.end_mark.index - 1
        return end, end, f"{', ' if node.value else ''}{entry}"
    indent = " " * node.value[0][0].start_mark.column
    end = text.find("\n", _content_end(node))
    end = len(text) if end < 0 else end
    return end, end, f"\n{indent}{entry}"


def _content_end(node: Node) -> int:
    """Returns the index after a node's content; the end mark of a block node includes the comments that follow."""
    while isinstance(node, SequenceNode | MappingNode) and not node.flow_style and node.value:
        node = node.value[-1] if isinstance(node, SequenceNode) else node.value[-1][1]
    end: int = node.end_mark.index
    return end


def _is_list_of_quoted(value: Any) -> bool:
    """Whether a value is a list with texts in quotes.

    DVC, when it changes another value of the file, writes them without quotes, and cannot read a text with a colon
    then unless each item is on its own line.
    """
    return isinstance(value, list) and any(_flow(item).startswith('"') for item in value)


def _block(value: Any, indent: int) -> str:
    """Returns a mapping or a list as YAML with an entry a line, to follow a key."""
    start = f"\n{' ' * indent}"
    if isinstance(value, Mapping):
        return "".join(f"{start}{name}:{_block(inner, indent + _INDENT)}" for name, inner in value.items())
    return "".join(f"{start}- {_flow(item)}" for item in value)


def _flow(value: Any) -> str:
    """Returns a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value)
