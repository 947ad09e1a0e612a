"""Adding a data set to the pipeline: the link to its folder, the folders of its models, its settings."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from spn4cir.blocks import copy_settings
from spn4cir.datasets import open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.files import atomic_file, atomic_folder, disk_errors
from spn4cir.inspection import Contents, inspect_folder
from spn4cir.params import (
    PARAMS_FILE,
    HubModel,
    LocalModel,
    OpenClipModel,
    Params,
    load_params,
    of_dataset,
    parse_params,
)

PLACEHOLDER = "PLACEHOLDER.md"
_NO_POOL = """\
No pool. A CC3M folder linked here is what the family `zs_cc` draws its triplets from: give it to add-dataset by --pool.
This folder is a declared dependency of the pipeline.
"""
# What YAML, or the overrides of `dvc exp run -S`, would not read as a name.
_WORDS = frozenset({"true", "false", "null", "inf", "nan"})
Source = HubModel | LocalModel | OpenClipModel


def add_dataset(project: Path, name: str, layout: str, path: Path, like: str | None, pool: Path | None = None) -> str:
    """Makes `path` the data set `name`; what is there already stays, so that a second run changes nothing.

    Everything is checked before anything is written.

    Args:
        project: the folder of `params.yaml` and `dvc.yaml`.
        name: the new name, or one of `params.yaml` whose data are not linked yet.
        layout: the annotation layout of `path`.
        path: the folder of images and captions; it is only read.
        like: the data set whose settings and local models are copied; None: the layout's published one.
        pool: a CC3M folder of further images, from which the family `zs_cc` draws its triplets; None: none.

    Returns:
        What was found and what to type next.

    Raises:
        InputError: the name, the project or the folder will not do, or something else has the place.
    """
    text = _read_project(project)
    _check_name(name)
    folder = _absolute(path)
    other = like or open_layout(layout, folder, "error").published
    place = project / "data" / "raw" / name
    linked = _is_linked(place, folder)
    extended, params = _extend(text, other, name, layout)
    contents, remarks = inspect_folder(params, name, folder)
    pooled = _find_pool(project / "data" / "pool" / name, params, name, pool)
    wanted = list(_add_models(project / "data" / "models", params, name, other))
    if not linked:
        _link(place, folder)
    _add_pool(project / "data" / "pool" / name, pool)
    if extended != text:
        with atomic_file(project / PARAMS_FILE) as temporary:
            temporary.write_bytes(extended.encode())
    found = f"{name}: layout {layout}, settings of {other}, {place.relative_to(project)} -> {folder}"
    return "\n".join(
        [found, *_describe(contents), *pooled, *_attention([*wanted, *remarks]), *_next_steps(place, contents)]
    )


def _read_project(project: Path) -> str:
    for file in (PARAMS_FILE, "dvc.yaml"):
        if not (project / file).is_file():
            raise InputError(
                f"{(project / file).absolute()}: no such file; run add-dataset in the root of the pipeline, where "
                f"{PARAMS_FILE} and dvc.yaml lie"
            )
    load_params(project / PARAMS_FILE)
    return (project / PARAMS_FILE).read_bytes().decode()  # with its own line ends


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or name.lower() in _WORDS:
        raise InputError(
            f"'{name}' will not do as a name: it begins with a letter and holds letters, digits, '_' and '-' alone "
            f"(and is none of {', '.join(sorted(_WORDS))})"
        )


def _extend(text: str, other: str, name: str, layout: str) -> tuple[str, Params]:
    """The text of `params.yaml` with the new data set, and what it says."""
    of_dataset(parse_params(text, PARAMS_FILE).datasets, other, "datasets")
    text = copy_settings(text, other, name, layout, PARAMS_FILE)
    params = parse_params(text, PARAMS_FILE)
    if (found := params.datasets[name].layout) != layout:
        raise InputError(f"{PARAMS_FILE}: data set '{name}' has layout {found}, not {layout}; choose another name")
    return text, params


def _is_linked(place: Path, folder: Path) -> bool:
    """Whether the folder is at its place already. Raises InputError when something else is, or git would ignore it."""
    if place.exists() and place.resolve() == folder.resolve():
        return True
    if os.path.lexists(place):
        what = f"a link to {place.readlink()}" if place.is_symlink() else "a folder or a file"
        raise InputError(f"{place}: {what} stands there already; remove it, or choose another name")
    if _ignored_by_git(place):
        raise InputError(
            f"{place}: git ignores this place (DVC writes it, or a .gitignore names it), so that experiments would "
            "miss the link; choose another name"
        )
    return False


def _ignored_by_git(place: Path) -> bool:
    """False too where there is no git, or no repository."""
    standing = next(folder for folder in place.absolute().parents if folder.is_dir())
    try:
        command = ["git", "check-ignore", "--quiet", str(place.absolute())]
        return subprocess.run(command, cwd=standing, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _link(place: Path, folder: Path) -> None:
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links


def _find_pool(place: Path, params: Params, name: str, pool: Path | None) -> list[str]:
    """A line on what the pool holds. Raises InputError when it cannot be read, or something else has its place."""
    if pool is None:
        return []
    folder, settings = _absolute(pool), params.datasets[name]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the root of a CC3M pool")
    if os.path.lexists(place) and place.resolve() != folder.resolve() and not _is_placeholder(place):
        raise InputError(f"{place}: another pool stands there already; remove it, or choose another name")
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
            _link(place, _absolute(pool))
    elif not os.path.lexists(place):
        with atomic_file(place / PLACEHOLDER) as temporary:
            temporary.write_text(_NO_POOL, encoding="utf-8")


def _add_models(models: Path, params: Params, name: str, other: str) -> Iterator[str]:
    """Makes the folders of the models with local files copied from `other`; yields what is left to put there."""
    own = of_dataset(params.models, name, "models")
    sources: dict[str, Source] = {"captioner": own.captioner, "encoder": own.encoder}
    sources |= {f"stage1/{family}": source for family, source in own.stage1.items()}
    for kind, source in sources.items():
        folder = models / name / kind
        if isinstance(source, LocalModel):
            if _has_model(folder, source) or _copy_model(models / other / kind, folder, source):
                continue
            if kind.startswith("stage1/") and kind.removeprefix("stage1/") not in params.run.models:
                _write_placeholder(folder, kind, source, name)
                continue
            what = "the model's files" if source.local == "." else source.local
            yield f"put {what} into {folder}: models.{name}.{kind.replace('/', '.')} in {PARAMS_FILE} names it"
        _write_placeholder(folder, kind, source, name)


def _has_model(folder: Path, source: LocalModel) -> bool:
    """Whether the file is there; of a whole folder, any file but a placeholder."""
    if source.local != ".":
        return (folder / source.local).exists()
    return folder.is_dir() and any(file.name != PLACEHOLDER for file in folder.iterdir())


def _copy_model(origin: Path, folder: Path, source: LocalModel) -> bool:
    """Copies a local model, whole or not at all; False where `origin` does not hold it."""
    if not _has_model(origin, source):
        return False
    model = origin / source.local
    if model.is_dir():
        left_out = shutil.ignore_patterns(PLACEHOLDER, ".gitignore", "*.dvc")
        with atomic_folder(folder / source.local) as temporary:
            shutil.copytree(model, temporary, copy_function=shutil.copyfile, ignore=left_out, dirs_exist_ok=True)
    else:
        with atomic_file(folder / source.local) as temporary:
            shutil.copyfile(model, temporary)
    return True


def _write_placeholder(folder: Path, kind: str, source: Source, name: str) -> None:
    key = f"models.{name}.{kind.replace('/', '.')}"
    if isinstance(source, HubModel):
        text = f"The Hugging Face hub serves {source.hub}; nothing need be put here."
    elif isinstance(source, OpenClipModel):
        text = f"open_clip serves {source.open_clip} ({source.tag}); nothing need be put here."
    else:
        text = f"Put {'the files of the model' if source.local == '.' else source.local} here."
    text += f" This folder is a declared dependency of the pipeline; {key} in {PARAMS_FILE} says what it holds.\n"
    place = folder / PLACEHOLDER
    if not place.exists():
        with atomic_file(place) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _describe(contents: Contents) -> list[str]:
    queries = ", ".join(f"{count} {split}" for split, count in contents.queries.items())
    missing = f"; {contents.missing} images are missing" if contents.missing else ""
    test = f"{contents.test} queries" if contents.test is not None else f"none to submit ({contents.test_fault})"
    return [
        f"  training    {contents.triplets} triplets, {contents.images} images",
        f"  validation  {queries} queries{missing}",
        f"  test        {test}",
    ]


def _attention(remarks: list[str]) -> list[str]:
    return ["", "Attention:", *(f"  - {remark}" for remark in remarks)] if remarks else []


def _next_steps(place: Path, contents: Contents) -> list[str]:
    """What to type: the models into DVC's cache, the link into git (queued experiments start from a commit), a run."""
    name = place.name
    data = f"data/raw/{name}" if place.is_symlink() else f"data/raw/{name}.dvc data/raw/.gitignore"
    own = [] if place.is_symlink() else [f"  dvc add data/raw/{name}"]
    submit = name if contents.test is not None else ""
    lists = f"-S 'run.datasets=[{name}]' -S 'run.submit=[{submit}]'"
    return [
        "",
        "Next:",
        *own,
        f"  dvc add data/models/{name}",
        f"  git add {PARAMS_FILE} {data} data/pool/{name} data/models/{name}.dvc data/models/.gitignore",
        f'  git commit -m "Add the data set {name}"',
        f"  in {PARAMS_FILE} set run.datasets: [{name}] and run.submit: [{submit}], then: dvc repro",
        f"  or for once: dvc exp run {lists}",
        f"  or in the queue: dvc exp run --queue {lists} && dvc queue start",
        "After a change of a model file: dvc add that folder again.",
    ]
