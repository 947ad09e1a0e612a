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
    """Opens a data set that can be trained on; the arguments are those of `open_benchmark`.

    Raises:
        InputError: the layout has no training split, or `open_benchmark` raises.
    """
    require_training(layout)
    return cast(Layout, open_benchmark(layout, root, missing, options))


def open_benchmark(layout: str, root: Path, missing: "Missing", options: Mapping[str, Any] | None = None) -> Benchmark:
    """Opens a data set for evaluation, which needs no training split.

    Args:
        layout: name of the annotation layout, a key of `LAYOUTS`.
        root: the folder of the data set.
        missing: whether a triplet with an absent image is an error or is left out.
        options: further settings of this layout, as in `Dataset.options`.

    Raises:
        InputError: the layout is unknown, does not take an option, or the folder is absent.
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
    """Finds the setting that a folder with only some of a layout's parts (categories, tasks) needs.

    The result is empty if the folder contains all parts or none, or if the layout has no parts.
    """
    find = getattr(adapter_class(layout), "find_parts", None)
    return find(root) if find else {}


def every_file(layout: str) -> tuple[str, ...]:
    """The endings of files of which a layout reads all in its folder. Raises InputError for an unknown layout."""
    return getattr(adapter_class(layout), "every_file", ())


def is_trained_on(layout: str) -> bool:
    """Whether a layout has a training split. Raises InputError for an unknown layout."""
    return hasattr(adapter_class(layout), "training_triplets")


def require_training(layout: str) -> None:
    """Raises InputError for a layout that is unknown or has no training split."""
    if not is_trained_on(layout):
        raise InputError(
            f"layout {layout} has no training split: it is only scored: name it under run.benchmarks of "
            "params.yaml, or score a checkpoint by: spn4cir validate"
        )


def adapter_class(layout: str) -> type[Any]:
    """Returns the adapter class of a layout. Raises InputError for an unknown layout."""
    if layout not in LAYOUTS:
        raise InputError(f"layout '{layout}' is not known; choose one of: {', '.join(LAYOUTS)}")
    module, name = LAYOUTS[layout].split(":")
    return cast(type[Any], getattr(import_module(module), name))


def submittable(layout: str, opened: Benchmark) -> Submittable:
    """Returns the benchmark typed as submittable. Raises InputError if no test server accepts files of the layout."""
    if not has_server(layout):
        raise InputError(f"{opened.root}: layout {layout} has no submission files; take one of: {with_server()}")
    return cast(Submittable, opened)


def has_server(layout: str) -> bool:
    """Whether a test server accepts files of a layout. Raises InputError for an unknown layout."""
    return hasattr(adapter_class(layout), "test_split")


def has_test_queries(opened: Benchmark) -> TypeGuard[Submittable]:
    """Whether a test server accepts files of the benchmark and its test queries are in the folder."""
    if not hasattr(opened, "test_split"):
        return False
    test = cast(Submittable, opened).submission[0].split
    return any(split.split == test for split in opened.annotated_splits())


def with_server() -> str:
    """Names of the layouts for which a test server accepts files, joined by commas."""
    return ", ".join(layout for layout in LAYOUTS if has_server(layout))
