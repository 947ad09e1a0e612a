"""The commands that follow the adding of a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from spn4cir.config.params import PARAMS_FILE
from spn4cir.projects.inspect_folder import Contents
from spn4cir.projects.project import change_folder


def run_lists(name: str, contents: Contents, families: Sequence[str]) -> dict[str, Sequence[str]]:
    """Returns the lists of `run` for a data set; `families` is empty if all families can be run."""
    submit = [name] if contents.test is not None else []
    return {"datasets": [name], "submit": submit} | ({"models": families} if families else {})


def next_steps(project: Path, name: str, lists: Mapping[str, Sequence[str]], chosen: bool) -> list[str]:
    """Returns the next commands: add the models to DVC and the link to git, from which queued experiments start; run.

    Args:
        project: the folder of `params.yaml`.
        name: name of the data set.
        lists: lists of `run` for the data set.
        chosen: whether `params.yaml` already contains these lists.
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
    """Returns the commands that run the pipeline with these lists of `run`."""
    texts = {f"run.{key}": ", ".join(names) for key, names in lists.items()}
    flags = " ".join(f"-S '{key}=[{names}]'" for key, names in texts.items())
    *first, last = (f"{key}: [{names}]" for key, names in texts.items())
    return [
        f"  in {PARAMS_FILE} set {', '.join(first)} and {last} (add-dataset --run does so), then: dvc repro",
        f"  or for once: dvc exp run {flags}",
        f"  or in the queue: dvc exp run --queue {flags} && dvc queue start",
    ]
