"""Annotation layouts by name. A new layout is one file here and one entry."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from spn4cir.datasets.protocol import Layout
from spn4cir.errors import InputError

LAYOUTS = {
    "fashioniq": "spn4cir.datasets.fashioniq:FashionIQ",
    "cirr": "spn4cir.datasets.cirr:Cirr",
    "folder": "spn4cir.datasets.folder:Folder",
}


def open_layout(
    layout: str, root: Path, missing: Literal["error", "skip"], options: Mapping[str, Any] | None = None
) -> Layout:
    """The adapter of a folder.

    Args:
        layout: its name.
        root: the folder.
        missing: what becomes of triplets whose image is not there.
        options: settings that this layout takes beside them, as in `Dataset.options`.

    Raises:
        InputError: the layout is not known, does not take an option, or the folder is not there.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout '{layout}' is not known; choose one of: {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the root of a {layout} data set")
    module, name = LAYOUTS[layout].split(":")
    adapter = getattr(import_module(module), name)
    taken = {field.name for field in fields(adapter)}
    for option in options or {}:
        if option not in taken:
            raise InputError(f"layout {layout} takes no '{option}'; leave it out")
    return cast(Layout, adapter(root, missing, **(options or {})))
