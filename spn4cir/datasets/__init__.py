"""Annotation layouts by name. A new layout is one file here and one entry."""

from importlib import import_module
from pathlib import Path
from typing import Literal, cast

from spn4cir.datasets.protocol import Layout
from spn4cir.errors import InputError

LAYOUTS = {
    "fashioniq": "spn4cir.datasets.fashioniq:FashionIQ",
    "cirr": "spn4cir.datasets.cirr:Cirr",
}


def open_layout(layout: str, root: Path, missing: Literal["error", "skip"]) -> Layout:
    """The adapter of a folder. Raises InputError for an unknown layout or a folder that is not there."""
    if layout not in LAYOUTS:
        raise InputError(f"layout '{layout}' is not known; choose one of: {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the root of a {layout} data set")
    module, name = LAYOUTS[layout].split(":")
    return cast(Layout, getattr(import_module(module), name)(root, missing))
