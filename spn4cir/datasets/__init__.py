"""Annotation layouts by name. A new layout is one file here and one entry."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from spn4cir.datasets.protocol import Benchmark, Layout, Submittable
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.datasets.records import Missing

LAYOUTS = {
    "fashioniq": "spn4cir.datasets.fashioniq:FashionIQ",
    "cirr": "spn4cir.datasets.cirr:Cirr",
    "circo": "spn4cir.datasets.circo:Circo",
    "genecis": "spn4cir.datasets.genecis:GeneCis",
    "folder": "spn4cir.datasets.folder:Folder",
    "table": "spn4cir.datasets.table:Table",
}


def open_layout(layout: str, root: Path, missing: "Missing", options: Mapping[str, Any] | None = None) -> Layout:
    """The adapter of a folder that can be trained on; as `open_benchmark`.

    Raises InputError as it does, and for a layout that has no training split.
    """
    require_training(layout)
    return cast(Layout, open_benchmark(layout, root, missing, options))


def open_benchmark(layout: str, root: Path, missing: "Missing", options: Mapping[str, Any] | None = None) -> Benchmark:
    """The adapter of a folder, for all that needs no training split.

    Args:
        layout: its name.
        root: the folder.
        missing: what becomes of triplets whose image is not there.
        options: settings that this layout takes beside them, as in `Dataset.options`.

    Raises:
        InputError: the layout is not known, does not take an option, or the folder is not there.
    """
    adapter = adapter_class(layout)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the root of a {layout} data set")
    taken = {field.name for field in fields(adapter)}
    for option in options or {}:
        if option not in taken:
            raise InputError(f"layout {layout} takes no '{option}'; leave it out")
    return cast(Benchmark, adapter(root, missing, **(options or {})))


def find_parts(layout: str, root: Path) -> dict[str, Any]:
    """The setting of a layout of several parts by which a folder that holds some of them alone is read.

    Empty where it holds all or none, or the layout has no parts.
    """
    find = getattr(adapter_class(layout), "find_parts", None)
    return find(root) if find else {}


def is_trained_on(layout: str) -> bool:
    """Whether a layout has a training split. Raises InputError for one that is not known."""
    return hasattr(adapter_class(layout), "training_triplets")


def require_training(layout: str) -> None:
    """Raises InputError for a layout that is not known or has no training split."""
    if not is_trained_on(layout):
        raise InputError(
            f"layout {layout} has no training split: it is only scored: name it under run.benchmarks of "
            "params.yaml, or score a checkpoint by: spn4cir validate"
        )


def adapter_class(layout: str) -> type[Any]:
    """The class behind a name. Raises InputError for one that is not known."""
    if layout not in LAYOUTS:
        raise InputError(f"layout '{layout}' is not known; choose one of: {', '.join(LAYOUTS)}")
    module, name = LAYOUTS[layout].split(":")
    return cast(type[Any], getattr(import_module(module), name))


def submittable(layout: str, opened: Benchmark) -> Submittable:
    """The benchmark, whose server takes files. Raises InputError where there is no such server."""
    if not has_server(layout):
        raise InputError(f"{opened.root}: layout {layout} has no submission files; take one of: {with_server()}")
    return cast(Submittable, opened)


def has_server(layout: str) -> bool:
    """Whether a test server takes files of a layout. Raises InputError for a layout that is not known."""
    return hasattr(adapter_class(layout), "test_split")


def has_test_queries(opened: Benchmark) -> TypeGuard[Submittable]:
    """Whether a server takes files of the benchmark, and the test queries are there."""
    if not hasattr(opened, "test_split"):
        return False
    test = cast(Submittable, opened).submission[0].split
    return any(split.split == test for split in opened.annotated_splits())


def with_server() -> str:
    """The layouts whose files a test server takes, as a list in words."""
    return ", ".join(layout for layout in LAYOUTS if has_server(layout))
