"""What commands share once their arguments are there: settings, data set, network and places to write."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from spn4cir.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from spn4cir.composers.protocol import Options
    from spn4cir.config.params import BenchmarkSettings, Dataset, Params
    from spn4cir.datasets.protocol import Benchmark, Layout


def project_folder() -> Path:
    """The project that this folder is in, seen from here; this folder where it is in none."""
    from spn4cir.config.load import find_project

    found = find_project(Path.cwd())
    return Path() if found is None else Path(os.path.relpath(found))


def find_machine(device: str | None, workers: int | None) -> tuple["Params", "torch.device", int]:
    """The settings in reach, and where the work runs: as asked, else as they say."""
    from spn4cir.config.load import find_params
    from spn4cir.device import choose_device

    params = find_params(Path.cwd())
    machine = params.machine
    return params, choose_device(device or machine.device), machine.workers if workers is None else workers


def find_benchmark(
    params: "Params",
    name: str,
    root: Path,
    dataset: str | None,
    missing: str | None,
    annotations: Path | None = None,
    query_text: str | None = None,
    table: "Sequence[str] | None" = None,
    categories: str | None = None,
    tasks: str | None = None,
) -> tuple["Benchmark", str]:
    """The data set or benchmark, and the name under which its settings stand in `params`."""
    from spn4cir.config.params import of_dataset
    from spn4cir.datasets import is_trained_on, open_benchmark

    chosen = dataset or open_benchmark(name, root, "error").published
    settings: Dataset | BenchmarkSettings
    if is_trained_on(name):
        settings = of_dataset(params.datasets, chosen, "datasets")
    else:
        settings = of_dataset(params.benchmarks, chosen, "benchmarks")
    if dataset and settings.layout != name:
        raise InputError(f"data set '{dataset}' has layout {settings.layout}, not {name}; name another one of the two")
    rule = cast(Literal["error", "skip"], missing or settings.missing)
    options = settings.options if dataset else {}
    options |= layout_options(annotations, query_text, table, categories, tasks)
    return open_benchmark(name, root, rule, options), chosen


def find_layout(
    params: "Params",
    name: str,
    root: Path,
    dataset: str | None,
    missing: str | None,
    annotations: Path | None,
    table: "Sequence[str] | None",
    categories: str | None,
) -> "Layout":
    """The data set, which must have a training split."""
    from spn4cir.datasets import require_training

    require_training(name)
    opened, _ = find_benchmark(params, name, root, dataset, missing, annotations, None, table, categories)
    return cast("Layout", opened)


def layout_options(
    annotations: Path | None,
    query_text: str | None = None,
    table: "Sequence[str] | None" = None,
    categories: str | None = None,
    tasks: str | None = None,
) -> dict[str, Any]:
    """The settings of one layout or another that were given."""
    given = {
        "annotations": str(annotations.absolute()) if annotations else None,
        "query_text": query_text,
        "table": table_settings(table) if table else None,
        "categories": _listed(categories),
        "tasks": _listed(tasks),
    }
    return {key: value for key, value in given.items() if value is not None}


def _listed(parts: str | None) -> tuple[str, ...] | None:
    """The names of A,B."""
    return None if parts is None else tuple(part.strip() for part in parts.split(",") if part.strip())


def table_settings(values: "Sequence[str]") -> dict[str, Any]:
    """Layout table's settings of KEY=VALUE: patterns of paths, and names of columns for all other keys.

    The value of `split` is a split, that of all rows, or else the name of a column.
    """
    from spn4cir.datasets.splits import SPLITS

    pairs = [value.partition("=") for value in values]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise InputError(f"--table '{wrong[0]}': write it as KEY=VALUE, as in reference=reference_image")
    counts = Counter(key for key, _, _ in pairs)
    if twice := [key for key, count in counts.items() if count > 1]:
        raise InputError(f"--table {twice[0]}=: stands there {counts[twice[0]]} times; give it once, a pattern with *")
    patterns = {key: value for key, _, value in pairs if key in ("files", "images", "targets")}
    patterns |= {key: value for key, _, value in pairs if key == "split" and value in SPLITS}
    columns = {key: value for key, _, value in pairs if key not in patterns}
    return {**patterns, **({"columns": columns} if columns else {})}


def network_options(tokenizer: str | None, vision_head_width: int | None, text_head_width: int | None) -> "Options":
    """What a checkpoint does not tell."""
    from spn4cir.composers.protocol import Options

    return Options(tokenizer=tokenizer, vision_head_width=vision_head_width, text_head_width=text_head_width)


def check_place(path: Path, folder: bool = False) -> None:
    """Refuses a place that cannot be written, before the work rather than after it."""
    if path.exists() and path.is_dir() != folder:
        kinds = ("file", "folder")
        raise InputError(f"{path}: is a {kinds[not folder]}; give the name of a {kinds[folder]} to write")
    standing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not os.access(standing, os.W_OK) or (standing.is_file() and standing != path.absolute()):
        raise InputError(f"{path}: {standing} cannot be written to; choose another place")
