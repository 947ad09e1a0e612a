"""Work in progress, `data/work/<stage>/<data set>[-<family>]`, that no stage continues with the present settings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.config.defaults import BY_FAMILY
from spn4cir.config.load import load_params
from spn4cir.config.params import PARAMS_FILE, Params
from spn4cir.errors import InputError
from spn4cir.projects.leftovers import OUTSIDE, Leftover, RunningProcess, age_of, is_in
from spn4cir.temporary_files import remove

_WORK = Path("data", "work")
_PIPELINE = "dvc.yaml"
_DAY = 24 * 3600


def find_unclaimed(workspace: Path, running: list[RunningProcess], may_remove: bool) -> Iterator[Leftover]:
    """The folders of work whose stage or data set the pipeline and the settings no longer have.

    A data set that `params.yaml` describes claims its work, also if `run` does not select it. Work that a link puts out
    of the workspace is reported and not removed.

    Args:
        workspace: the folder that contains `.dvc`.
        running: the processes that use the workspace.
        may_remove: whether the user allows it; the work may have taken hours.
    """
    folders = sorted(path for path in (workspace / _WORK).glob("*/*") if path.is_dir() and not path.is_symlink())
    if not folders:
        return
    try:
        stages = _stages(workspace / _PIPELINE)
        names = _claims(load_params(workspace / PARAMS_FILE))
    except InputError as error:
        yield Leftover(_WORK, "was not checked", f"the settings cannot be read ({error})")
        return
    for path in folders:
        stage, name = path.relative_to(workspace / _WORK).parts
        if stage not in stages or name not in names:
            yield _leftover(workspace, path, running, may_remove)


def _leftover(workspace: Path, path: Path, running: list[RunningProcess], may_remove: bool) -> Leftover:
    size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    place = path.relative_to(workspace)
    fault = (
        f"({size / 1e6:,.1f} MB, {age_of(path) / _DAY:.0f} days old) belongs to no stage and data set of the settings"
    )
    if not is_in(path, workspace):
        return Leftover(place, fault, OUTSIDE)
    if running:
        return Leftover(place, fault, f"{running[0]} runs here: wait for its end")
    if not may_remove:
        return Leftover(place, fault, "--remove-work removes it")
    return Leftover(place, fault, "removed", partial(remove, path))


def _claims(params: Params) -> set[str]:
    """The names of the folders of work: of each data set and benchmark, and of each of them with each family."""
    names = {*params.datasets, *params.benchmarks}
    sections = params.model_dump(by_alias=True)
    families = {family for section in BY_FAMILY for entry in sections[section].values() for family in entry}
    return names | {f"{name}-{family}" for name in names for family in families}


def _stages(path: Path) -> set[str]:
    try:
        return set(YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"])
    except (OSError, YAMLError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: cannot be read as a pipeline; restore it, as with git checkout {path.name}"
        ) from None
