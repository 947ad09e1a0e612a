"""Steps that commands share: finding the settings, the machine and the data set."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spn4cir.cli.groups import MachineOptions, SettingsOptions
from spn4cir.errors import InputError

if TYPE_CHECKING:
    import torch

    from spn4cir.config.params import BenchmarkSettings, Dataset, Params
    from spn4cir.datasets.protocol import Benchmark
    from spn4cir.images.workers import Workers


def project_folder() -> Path:
    """The folder of the project that contains this folder, as a relative path; this folder when there is no project."""
    from spn4cir.config.load import find_project

    found = find_project(Path.cwd())
    return Path() if found is None else Path(os.path.relpath(found))


def find_machine(asked: MachineOptions) -> tuple["Params", "torch.device", int]:
    """The settings in reach, the device and the number of processes; the options take precedence over the settings."""
    from spn4cir.config.load import find_params
    from spn4cir.device import choose_device

    params = find_params(Path.cwd())
    return (
        params,
        choose_device(params.machine.device if asked.device is None else asked.device),
        find_workers(params, asked.workers),
    )


def find_workers(params: "Params", asked: int | None) -> int:
    """The number of processes that decode images: the option, or the value of the settings."""
    return params.machine.workers if asked is None else asked


def find_image_workers(params: "Params", asked: int | None) -> "Workers":
    """Who decodes many images: the processes of the option, or the workers of the settings."""
    from spn4cir.images.ray_cluster import workers_of

    return workers_of(params.machine) if asked is None else asked


def find_benchmark(
    params: "Params",
    name: str,
    root: Path,
    asked: SettingsOptions,
    given: dict[str, Any],
) -> tuple["Benchmark", str]:
    """Opens a data set or benchmark; also returns the name that its settings have in `params`.

    Args:
        params: the settings in reach.
        name: the layout.
        root: the data set's folder.
        asked: whose settings are taken, and the rule for missing images.
        given: settings of the layout that override those of `params`.

    Raises:
        InputError: the named data set is unknown or has another layout.
    """
    from spn4cir.config.params import of_dataset
    from spn4cir.datasets import is_trained_on, open_benchmark

    chosen = open_benchmark(name, root, "error").published if asked.dataset is None else asked.dataset
    settings: Dataset | BenchmarkSettings
    if is_trained_on(name):
        settings = of_dataset(params.datasets, chosen, "datasets")
    else:
        settings = of_dataset(params.benchmarks, chosen, "benchmarks")
    if asked.dataset is not None and settings.layout != name:
        raise InputError(f"data set '{chosen}' has layout {settings.layout}, not {name}; name another one of the two")
    options = ({} if asked.dataset is None else settings.options) | given
    return open_benchmark(name, root, asked.missing or settings.missing, options), chosen


def dataset_files(params: "Params", root: Path | None, name: str | None, annotations: Path | None) -> list[Path | None]:
    """The folder of a data set, and its file of annotations: that of the option, else that of its settings."""
    settings = params.datasets.get(name or "")
    if annotations is None and settings is not None and settings.annotations and root is not None:
        annotations = root / settings.annotations
    return [root, annotations]
