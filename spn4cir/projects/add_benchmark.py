"""Adds a benchmark to the pipeline: the link to its folder, and its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spn4cir.config.load import parse_params
from spn4cir.config.params import PARAMS_FILE, Params, of_dataset
from spn4cir.datasets import find_parts, has_test_queries, open_benchmark
from spn4cir.datasets.protocol import Benchmark
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.images.ray_cluster import workers_of
from spn4cir.projects.add_dataset import parts_lines
from spn4cir.projects.check import check_data
from spn4cir.projects.check_lines import images_lines
from spn4cir.projects.copy_settings import copy_settings, require_given
from spn4cir.projects.project import absolute, change_folder, check_name, is_linked, link, read_project


def add_benchmark(
    project: Path,
    name: str,
    layout: str,
    path: Path,
    like: str | None,
    check: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Adds the folder `path` as benchmark `name`. Existing links and settings are kept: a second run changes nothing.

    Everything is checked before anything is written; missing or broken images are reported and do not stop the command.

    Args:
        project: the folder of `params.yaml` and `dvc.yaml`.
        name: a new name, or a name in `params.yaml` that has no data yet.
        layout: annotation layout of `path`, without a training split.
        path: folder of the benchmark; nothing is written to it.
        like: benchmark to copy the settings from; None for the layout's published one.
        check: whether to decode every image that the annotations name.
        settings: `tasks`, for layouts that take it; without it, the tasks that the folder contains.

    Returns:
        A report of the contents of the folder and the next commands.

    Raises:
        InputError: the name, the project or the folder is invalid, or the place of the link is occupied.
    """
    text = read_project(project)
    check_name(name)
    folder = absolute(path)
    options = dict(settings or {}) or find_parts(layout, folder)
    other = open_benchmark(layout, folder, "error", options).published if like is None else like
    place = project / "data" / "raw" / name
    linked = is_linked(place, folder)
    extended, params = _extend(text, other, name, layout, options)
    opened = open_benchmark(layout, folder, "skip", params.benchmarks[name].options)
    found = _describe(opened)
    checked = images_lines(name, check_data(opened, workers_of(params.machine))) if check else []
    if not linked:
        link(place, folder)
    if extended != text:
        with atomic_file(project / PARAMS_FILE) as temporary:
            temporary.write_bytes(extended.encode())
    first = f"{name}: layout {layout}, settings of {other}, {place.relative_to(project)} -> {folder}"
    return "\n".join([first, *parts_lines("benchmarks", name, options), *found, *checked, *_next_steps(project, name)])


def _extend(text: str, other: str, name: str, layout: str, options: Mapping[str, Any]) -> tuple[str, Params]:
    """Returns the text of `params.yaml` with the new benchmark, and its parsed settings."""
    known = parse_params(text, PARAMS_FILE).benchmarks
    like = of_dataset(known, other, "benchmarks")
    if (found := known.get(name, like).layout) != layout:
        raise InputError(f"{PARAMS_FILE}: benchmark '{name}' has layout {found}, not {layout}; choose another name")
    text = copy_settings(text, other, name, layout, PARAMS_FILE, options)
    params = parse_params(text, PARAMS_FILE)
    require_given(params.benchmarks[name], options, f"{PARAMS_FILE}: benchmarks.{name}")
    return text, params


def _describe(opened: Benchmark) -> list[str]:
    splits = opened.evaluation_splits()
    counts = ", ".join(f"{len(split.triplets)} {split.name}" for split in splits)
    missing = sum(split.missing for split in splits)
    test = f"{len(opened.test_queries()[0])} queries" if has_test_queries(opened) else "none to submit"
    return [
        f"  validation  {counts} queries{f'; {missing} images are missing' if missing else ''}",
        f"  test        {test}",
    ]


def _next_steps(project: Path, name: str) -> list[str]:
    """Returns the next commands: add the link to git, then choose the data set whose weights are scored."""
    chosen = f"run.benchmarks=[{{name:{name},weights:DATASET}}]"
    return [
        "",
        "Next:",
        *change_folder(project),
        f"  git add {PARAMS_FILE} data/raw/{name}",
        f'  git commit -m "Add the benchmark {name}"',
        f"  in {PARAMS_FILE} set run.benchmarks: [{{name: {name}, weights: DATASET}}], then: dvc repro benchmark",
        f"  or for once: dvc exp run -S '{chosen}' benchmark",
        "DATASET is a data set of run.datasets; its trained weights are scored.",
    ]
