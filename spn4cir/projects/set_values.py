"""Sets single values in the text of `params.yaml`, and keeps every other byte."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from spn4cir.errors import InputError

KeyPath = tuple[str, ...]
# Texts that YAML reads as the text itself, unless it is one of the words.
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
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
    for path, value in values.items():
        text = _set(text, path, value, place)
    return text


def compose(text: str, place: str) -> MappingNode:
    """Returns the root node of a YAML file. Raises InputError if the file is not a YAML mapping."""
    try:
        root = YAML().compose(text)
    except YAMLError as error:
        raise InputError(f"{place}: is not valid YAML ({getattr(error, 'problem', error)}); correct it") from None
    if not isinstance(root, MappingNode):
        raise InputError(f"{place}: contains no sections; use the params.yaml of this project")
    return root


def _set(text: str, path: KeyPath, value: Any, place: str) -> str:
    node: Node = compose(text, place)
    indent = 0
    for depth, name in enumerate(path):
        if not isinstance(node, MappingNode):
            raise InputError(f"{place}: {'.'.join(path[:depth])}: expected keys with values; write it as {{}}")
        entry = next(((key, inner) for key, inner in node.value if key.value == name), None)
        if entry is None:
            added = _nested(path[depth:], value)
            if _is_list_of_quoted(value) and not node.value and indent:
                return f"{text[: node.start_mark.index].rstrip()}{_block(added, indent)}{text[node.end_mark.index :]}"
            return _insert(text, node, name, added[name])
        indent = 0 if node.flow_style else node.start_mark.column + _INDENT
        key, node = entry
        if node.start_mark.index < key.end_mark.index:
            raise InputError(f"{place}: {'.'.join(path)}: is written elsewhere; write it out in full, then run again")
    written = _block(value, indent) if indent and _is_list_of_quoted(value) else f" {_flow(value)}"
    return f"{text[: key.end_mark.index]}:{written}{text[_content_end(node) :]}"


def _nested(path: KeyPath, value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _insert(text: str, node: MappingNode, name: str, value: Any) -> str:
    """Adds an entry after the last one of a mapping."""
    entry = f"{name}: {_flow(value)}"
    if node.flow_style or not node.value:
        end = node.end_mark.index - 1
        return f"{text[:end]}{', ' if node.value else ''}{entry}{text[end:]}"
    indent = " " * node.value[0][0].start_mark.column
    end = text.find("\n", _content_end(node))
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{indent}{entry}{text[end:]}"


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
