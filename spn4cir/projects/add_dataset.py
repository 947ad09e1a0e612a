"""Adds a data set to the pipeline: the link to its folder, the folders of its models, its settings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.config.load import load_params, parse_params
from spn4cir.config.params import PARAMS_FILE, Params, of_dataset
from spn4cir.datasets import find_parts, open_layout
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.images.ray_cluster import workers_of
from spn4cir.projects.check import Check, check_data
from spn4cir.projects.check_lines import images_lines
from spn4cir.projects.copy_settings import copy_settings, require_given, set_run
from spn4cir.projects.fit_settings import describe, fit_copied, misfits, written
from spn4cir.projects.hub_tables import fetch_tables
from spn4cir.projects.inspect_folder import Contents, generated_families, inspect_folder
from spn4cir.projects.models import PLACEHOLDER, add_models
from spn4cir.projects.next_steps import next_steps, run_lists
from spn4cir.projects.pool import add_pool, find_pool
from spn4cir.projects.project import absolute, check_above, check_name, is_linked, link, read_project
from spn4cir.projects.set_values import KeyPath, set_values


@dataclass(frozen=True)
class Added:
    """A data set that was added.

    Attributes:
        contents: the contents of its folder.
        check: the result of the check of its images; None if they were not checked.
        lines: the report of the contents of the folder.
        steps: the next commands.
    """

    contents: Contents
    check: Check | None
    lines: list[str]
    steps: list[str]

    @property
    def report(self) -> str:
        """The report of the contents of the folder, and the next commands."""
        return "\n".join([*self.lines, *self.steps])


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
    changes: Mapping[KeyPath, Any] | None = None,
) -> Added:
    """Adds the folder `path` as data set `name`. Existing links and settings are kept: a second run changes nothing.

    Everything is checked before anything is written; missing or broken images are reported and do not stop the command.

    Args:
        project: the folder of `params.yaml` and `dvc.yaml`.
        name: a new name, or a name in `params.yaml` that has no data yet.
        layout: annotation layout of `path`.
        path: folder of images and captions; nothing is written to it.
        like: data set to copy the settings and local models from; None for the layout's published one.
        pool: CC3M folder of further images, from which the family `zs_cc` draws its triplets; None for no pool.
        annotations: CSV or parquet file, for layouts that take one.
        check: whether to decode every image that the annotations name.
        settings: `table` or `categories`, for layouts that take them, and `hub`, the origin of the folder; without
            `categories`, the categories that the folder contains.
        chosen: whether to set the lists of `run` to this data set, so that `dvc repro` runs it. Without annotated
            triplets, the families are those that need none.
        changes: values of `params.yaml` that are set after the settings are copied.

    Raises:
        InputError: the name, the project or the folder is invalid, or the place of the link is occupied.
    """
    text = read_project(project)
    check_name(name)
    folder = absolute(path)
    options = find_parts(layout, folder) | _options(folder, annotations) | dict(settings or {})
    own = {key: value for key, value in options.items() if key != "hub"}
    other = open_layout(layout, folder, "error", own).published if like is None else like
    place = project / "data" / "raw" / name
    linked = is_linked(place, folder)
    for kind in ("models", "pool"):
        check_above(project / "data" / kind / name / PLACEHOLDER)
    extended, params = _extend(text, other, name, layout, options, changes or {})
    contents, remarks = inspect_folder(params, name, folder)
    if name not in parse_params(text, PARAMS_FILE).datasets:
        extended, params = _fit(extended, name, contents)
    families = () if contents.triplets else generated_families(params, name)
    lists = run_lists(name, contents, families)
    if chosen:
        extended = set_run(extended, {**lists, "benchmarks": []}, PARAMS_FILE)
        params = parse_params(extended, PARAMS_FILE)
    pooled = find_pool(project / "data" / "pool" / name, params, name, pool)
    wanted = list(add_models(project / "data" / "models", params, name, other, families or params.run.models))
    if not linked:
        link(place, folder)
    add_pool(project / "data" / "pool" / name, pool)
    if extended != text:
        with atomic_file(project / PARAMS_FILE) as temporary:
            temporary.write_bytes(extended.encode())
    checked = _check(params, name, folder) if check else None
    found = f"{name}: layout {layout}, settings of {other}, {place.relative_to(project)} -> {folder}"
    lines = [found, *parts_lines("datasets", name, options), *_describe(contents)]
    lines += [*_fitted_lines(params, name, other, contents, params.run.models if chosen else None), *pooled]
    lines += images_lines(name, checked) if checked else []
    remarks = [*wanted, *remarks, *_too_large(params, name, contents), *_outside(name, folder, options)]
    return Added(contents, checked, [*lines, *_attention(remarks)], next_steps(project, name, lists, chosen))


def fetch_dataset(
    project: Path, name: str, layout: str, repository: str | None, revision: str, options: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Downloads a data set from the hub.

    Args:
        project: the folder of `params.yaml`.
        name: name of the data set; without `repository`, its settings give the repository and the commit.
        layout: annotation layout; only `table` is read from the hub.
        repository: repository as `owner/name`; None to use the settings.
        revision: branch, tag or commit of `repository`.
        options: settings of the layout; may contain `table`.

    Returns:
        The folder of the files, and the options with the repository and commit under `hub`.

    Raises:
        InputError: neither a repository nor settings of one are given, the layout is not `table`, or the download
            fails.
    """
    known = load_params(project / PARAMS_FILE).datasets.get(name)
    if repository is None and (known is None or known.hub is None):
        raise InputError("no data given: give --path FOLDER or, for layout table, --hub OWNER/NAME")
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
    """Returns the setting `annotations`, relative to the folder if the file is inside it; empty without annotations."""
    if annotations is None:
        return {}
    file = absolute(annotations)
    return {"annotations": file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()}


def _outside(name: str, folder: Path, options: dict[str, Any]) -> list[str]:
    """Returns a remark if the annotations are outside the data set's folder, the only place that DVC watches."""
    if not Path(options.get("annotations", "")).is_absolute():
        return []
    return [
        f"{options['annotations']} is outside {folder}: DVC does not see when it changes; put it in the folder and "
        f"set datasets.{name}.annotations, or after such a change type: dvc repro --force"
    ]


def _check(params: Params, name: str, folder: Path) -> Check:
    settings = params.datasets[name]
    layout = open_layout(settings.layout, folder, "skip", settings.options)
    return check_data(layout, workers_of(params.machine))


def _extend(
    text: str, other: str, name: str, layout: str, options: dict[str, Any], changes: Mapping[KeyPath, Any]
) -> tuple[str, Params]:
    """Returns the text of `params.yaml` with the new data set and the changes, and its parsed settings."""
    of_dataset(parse_params(text, PARAMS_FILE).datasets, other, "datasets")
    text = copy_settings(text, other, name, layout, PARAMS_FILE, options)
    text = set_values(text, changes, PARAMS_FILE)
    params = parse_params(text, PARAMS_FILE)
    require_given(params.datasets[name], options, f"{PARAMS_FILE}: datasets.{name}")
    if (found := params.datasets[name].layout) != layout:
        raise InputError(f"{PARAMS_FILE}: data set '{name}' has layout {found}, not {layout}; choose another name")
    return text, params


def _fit(text: str, name: str, contents: Contents) -> tuple[str, Params]:
    """Returns the text of `params.yaml` in which the settings of `name` fit the folder, and its parsed settings."""
    found = misfits(parse_params(text, PARAMS_FILE), name, contents)
    text = set_values(text, {each.path: each.fitting for each in found}, PARAMS_FILE)
    return text, parse_params(text, PARAMS_FILE)


def _fitted_lines(
    params: Params, name: str, other: str, contents: Contents, families: Collection[str] | None
) -> list[str]:
    """Returns the report lines about copied settings that were replaced, also for a data set that was added earlier.

    `families` are those whose settings are reported; None: all.
    """
    found = [
        each
        for each in fit_copied(params, name, other, contents)
        if written(each.path, params) == each.fitting and (families is None or each.family in families)
    ]
    return [f"  {'settings':<12}{line}" for line in describe(found)]


def _too_large(params: Params, name: str, contents: Contents) -> list[str]:
    """Returns remarks on settings that do not fit; those of a new data set fit."""
    return [f"set {line}" for line in describe(misfits(params, name, contents))]


def parts_lines(section: str, name: str, options: Mapping[str, Any]) -> list[str]:
    """Returns the report lines about a data set with only some categories or tasks."""
    return [
        f"  {setting:<12}only {', '.join(options[setting])}: written to {section}.{name}.{setting}"
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
