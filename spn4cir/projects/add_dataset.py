"""Adding a data set to the pipeline: the link to its folder, the folders of its models, its settings."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spn4cir.config.load import load_params, parse_params
from spn4cir.config.params import PARAMS_FILE, Params, of_dataset
from spn4cir.datasets import find_parts, open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.projects.check import check_data
from spn4cir.projects.check_lines import images_lines
from spn4cir.projects.copy_settings import copy_settings, require_given, set_run
from spn4cir.projects.hub_tables import fetch_tables
from spn4cir.projects.inspect_folder import Contents, generated_families, inspect_folder
from spn4cir.projects.models import PLACEHOLDER, add_models
from spn4cir.projects.project import absolute, change_folder, check_name, is_linked, link, read_project

_NO_POOL = """\
No pool. A CC3M folder linked here is what the family `zs_cc` draws its triplets from: give it to add-dataset by --pool.
This folder is a declared dependency of the pipeline.
"""


def add_dataset(
    project: Path,
    name: str,
    layout: str,
    path: Path,
    like: str | None,
    pool: Path | None = None,
    annotations: Path | None = None,
    check: bool = True,
    settings: Mapping[str, Any] | None = None,
    chosen: bool = False,
) -> str:
    """Makes `path` the data set `name`; what is there already is kept, so that a second run changes nothing.

    Everything is checked before anything is written; missing or broken images are reported and do not stop the command.

    Args:
        project: the folder of `params.yaml` and `dvc.yaml`.
        name: the new name, or one of `params.yaml` whose data are not linked yet.
        layout: the annotation layout of `path`.
        path: the folder of images and captions; it is only read.
        like: the data set whose settings and local models are copied; None: the layout's published one.
        pool: a CC3M folder of further images, from which the family `zs_cc` draws its triplets; None: none.
        annotations: a CSV or parquet file, for layouts that take one.
        check: decode every image that the annotations name.
        settings: `table` or `categories`, of a layout that takes it, and `hub`, where the folder came from; categories
            that are not given are those that the folder holds.
        chosen: set the lists of `run` to this data set, so that `dvc repro` runs it; without annotated triplets, with
            the families that need none.

    Returns:
        What was found and what to type next.

    Raises:
        InputError: the name, the project or the folder is not valid, or another file is at the data set's place.
    """
    text = read_project(project)
    check_name(name)
    folder = absolute(path)
    options = find_parts(layout, folder) | _options(folder, annotations) | dict(settings or {})
    own = {key: value for key, value in options.items() if key != "hub"}
    other = like or open_layout(layout, folder, "error", own).published
    place = project / "data" / "raw" / name
    linked = is_linked(place, folder)
    extended, params = _extend(text, other, name, layout, options)
    contents, remarks = inspect_folder(params, name, folder)
    families = () if contents.triplets else generated_families(params, name)
    lists = _run_lists(name, contents, families)
    if chosen:
        extended = set_run(extended, {**lists, "benchmarks": []}, PARAMS_FILE)
        params = parse_params(extended, PARAMS_FILE)
    pooled = _find_pool(project / "data" / "pool" / name, params, name, pool)
    wanted = list(add_models(project / "data" / "models", params, name, other))
    if not linked:
        link(place, folder)
    _add_pool(project / "data" / "pool" / name, pool)
    if extended != text:
        with atomic_file(project / PARAMS_FILE) as temporary:
            temporary.write_bytes(extended.encode())
    found = f"{name}: layout {layout}, settings of {other}, {place.relative_to(project)} -> {folder}"
    checked = _check(params, name, folder) if check else []
    attention = _attention([*wanted, *remarks, *_outside(name, folder, options)])
    described = [*parts_lines("datasets", name, options), *_describe(contents)]
    return "\n".join([found, *described, *pooled, *checked, *attention, *_next_steps(project, name, lists, chosen)])


def fetch_dataset(
    project: Path, name: str, layout: str, repository: str | None, revision: str, options: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """The folder of a data set of the hub, fetched, and the options with where it came from.

    Args:
        project: the folder of `params.yaml`.
        name: the data set; where no repository is given, its settings say which and at which commit.
        layout: must be the one that reads what the hub holds.
        repository: as `owner/name`; None: as the settings say.
        revision: branch, tag or commit of a repository that is given.
        options: `table`, if it is given.

    Raises:
        InputError: no place of the data is given, or the hub does not serve them.
    """
    known = load_params(project / PARAMS_FILE).datasets.get(name)
    if repository is None and (known is None or known.hub is None):
        raise InputError("no data given: name them by --path FOLDER, or for layout table by --hub OWNER/NAME")
    if layout != "table":
        raise InputError(f"layout {layout} is not read from the hub; download it and name its folder by --path")
    if repository is None and known is not None and known.hub is not None:
        repository, revision = known.hub.repository, known.hub.revision
        options = options or {"table": known.options["table"]} if "table" in known.options else options
    table = options.get("table", {})
    patterns = [table[key] for key in ("files", "images", "targets") if key in table]
    folder, commit = fetch_tables(str(repository), revision, patterns)
    return folder, {**options, "hub": {"repository": repository, "revision": commit}}


def _options(folder: Path, annotations: Path | None) -> dict[str, Any]:
    """The settings of the layout: annotations by their path from the folder, where they are inside it."""
    if annotations is None:
        return {}
    file = absolute(annotations)
    return {"annotations": file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()}


def _outside(name: str, folder: Path, options: dict[str, Any]) -> list[str]:
    """DVC watches the data set's folder alone."""
    if not Path(options.get("annotations", "")).is_absolute():
        return []
    return [
        f"{options['annotations']} is outside {folder}: DVC does not see when it changes; put it in the folder and "
        f"set datasets.{name}.annotations, or after such a change type: dvc repro --force"
    ]


def _check(params: Params, name: str, folder: Path) -> list[str]:
    settings = params.datasets[name]
    layout = open_layout(settings.layout, folder, "skip", settings.options)
    return images_lines(name, check_data(layout, params.machine.workers))


def _extend(text: str, other: str, name: str, layout: str, options: dict[str, Any]) -> tuple[str, Params]:
    """The text of `params.yaml` with the new data set, and what it says."""
    of_dataset(parse_params(text, PARAMS_FILE).datasets, other, "datasets")
    text = copy_settings(text, other, name, layout, PARAMS_FILE, options)
    params = parse_params(text, PARAMS_FILE)
    require_given(params.datasets[name], options, f"{PARAMS_FILE}: datasets.{name}")
    if (found := params.datasets[name].layout) != layout:
        raise InputError(f"{PARAMS_FILE}: data set '{name}' has layout {found}, not {layout}; choose another name")
    return text, params


def _find_pool(place: Path, params: Params, name: str, pool: Path | None) -> list[str]:
    """A line on what the pool holds. Raises InputError when it cannot be read, or something else has its place."""
    if pool is None:
        return []
    folder, settings = absolute(pool), params.datasets[name]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the root of a CC3M pool")
    if os.path.lexists(place) and place.resolve() != folder.resolve() and not _is_placeholder(place):
        raise InputError(f"{place}: another pool is there already; remove it, or choose another name")
    images = Cc3m(folder, settings.pool, settings.missing).images()
    return [f"  pool        {len(images)} images"]


def _is_placeholder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and [file.name for file in place.iterdir()] == [PLACEHOLDER]


def _add_pool(place: Path, pool: Path | None) -> None:
    """Links the pool, or writes a placeholder where there is none: stages declare the place as a dependency."""
    if pool is not None:
        if _is_placeholder(place):
            shutil.rmtree(place)
        if not os.path.lexists(place):
            link(place, absolute(pool))
    elif not os.path.lexists(place):
        with atomic_file(place / PLACEHOLDER) as temporary:
            temporary.write_text(_NO_POOL, encoding="utf-8")


def parts_lines(section: str, name: str, options: Mapping[str, Any]) -> list[str]:
    """What is said of a data set of which some categories or tasks alone are read."""
    return [
        f"  {setting:<12}{', '.join(options[setting])} alone: written as {section}.{name}.{setting}"
        for setting in ("categories", "tasks")
        if setting in options
    ]


def _describe(contents: Contents) -> list[str]:
    counts = ", ".join(f"{count} {split}" for split, count in contents.queries.items())
    queries = f"{counts} queries" if counts else "no annotated queries: some of the generated triplets are held out"
    missing = f"; {contents.missing} images are missing" if contents.missing else ""
    test = f"{contents.test} queries" if contents.test is not None else f"none to submit ({contents.test_fault})"
    return [
        f"  training    {contents.triplets} triplets, {contents.images} images",
        f"  validation  {queries}{missing}",
        f"  test        {test}",
    ]


def _attention(remarks: list[str]) -> list[str]:
    return ["", "Attention:", *(f"  - {remark}" for remark in remarks)] if remarks else []


def _run_lists(name: str, contents: Contents, families: Sequence[str]) -> dict[str, Sequence[str]]:
    """The lists of `run` that a data set needs; `families` are those that can be run, where not all can."""
    submit = [name] if contents.test is not None else []
    return {"datasets": [name], "submit": submit} | ({"models": families} if families else {})


def _next_steps(project: Path, name: str, lists: Mapping[str, Sequence[str]], chosen: bool) -> list[str]:
    """What to type: the models into DVC's cache, the link into git (queued experiments start from a commit), a run.

    Args:
        project: the folder of `params.yaml`.
        name: of the data set.
        lists: those of `run` that the data set needs.
        chosen: they are set already.
    """
    place = project / "data" / "raw" / name
    data = f"data/raw/{name}" if place.is_symlink() else f"data/raw/{name}.dvc data/raw/.gitignore"
    own = [] if place.is_symlink() else [f"  dvc add data/raw/{name}"]
    return [
        "",
        "Next:",
        *change_folder(project),
        *own,
        f"  dvc add data/models/{name}",
        f"  git add {PARAMS_FILE} {data} data/pool/{name} data/models/{name}.dvc data/models/.gitignore",
        f'  git commit -m "Add the data set {name}"',
        *(["  dvc repro"] if chosen else _choices(lists)),
        "After a change of a model file: dvc add that folder again.",
    ]


def _choices(lists: Mapping[str, Sequence[str]]) -> list[str]:
    """The ways to run with these lists of `run`."""
    texts = {f"run.{key}": ", ".join(names) for key, names in lists.items()}
    flags = " ".join(f"-S '{key}=[{names}]'" for key, names in texts.items())
    *first, last = (f"{key}: [{names}]" for key, names in texts.items())
    return [
        f"  in {PARAMS_FILE} set {', '.join(first)} and {last} (add-dataset --run does so), then: dvc repro",
        f"  or for once: dvc exp run {flags}",
        f"  or in the queue: dvc exp run --queue {flags} && dvc queue start",
    ]
