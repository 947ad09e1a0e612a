"""Projects of one data set: made around a folder of images, checked, run by DVC, and committed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spn4cir.config.load import load_params, published_file
from spn4cir.config.params import PARAMS_FILE
from spn4cir.datasets import open_layout
from spn4cir.errors import InputError, some_names
from spn4cir.extras import install_command
from spn4cir.files import atomic_file, atomic_folder, disk_errors, file_hash
from spn4cir.projects.add_dataset import Added, add_dataset
from spn4cir.projects.check import Check
from spn4cir.projects.doctor import examine
from spn4cir.projects.fit_settings import written
from spn4cir.projects.pipeline_files import copy_pipeline
from spn4cir.projects.project import absolute, link
from spn4cir.projects.recipe import Recipe
from spn4cir.projects.set_values import set_values
from spn4cir.readable import real_path

# The data set whose published settings are copied.
_LIKE = "fiq"
_SHOWN = 5
# Names that YAML reads as values.
_WORDS = frozenset({"true", "false", "null", "inf", "nan"})
_FEWEST = 8
_OF_RUN = (PARAMS_FILE, "dvc.lock", "metrics", "data/code")
# The hash of annotations outside the folder of images, with which the project was run; git ignores the folder.
_HASH_OF_RUN = Path("data", "work", "annotations.sha256")


def require_tools() -> None:
    """Raises InputError unless DVC and git are installed."""
    if importlib.util.find_spec("dvc") is None or importlib.util.find_spec("dvclive") is None:
        raise InputError(f"training runs through DVC, which is not installed; run {install_command('dvc')}")
    if shutil.which("git") is None:
        raise InputError("a project of DVC is a git repository, and git is not installed; install git")


def name_of(folder: Path) -> str:
    """Returns the name that the data set of a folder has: the folder's own, with letters that a name may contain.

    A name that the published settings contain, or that YAML reads as another value, gets a prefix.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.name).strip("_-")
    params = load_params(published_file())
    taken = {*params.datasets, *params.benchmarks, *_WORDS}
    return plain if re.match(r"[A-Za-z]", plain) and plain.lower() not in taken else f"own_{plain}".rstrip("_")


def is_project(out: Path) -> bool:
    """Whether the folder is a project. Raises InputError for a folder that contains anything else, or a file."""
    if (out / PARAMS_FILE).is_file() and (out / "dvc.yaml").is_file():
        return True
    if out.is_dir() and not any(out.iterdir()):
        return False
    if os.path.lexists(out):
        raise InputError(f"{out}: exists and is not a project of spn4cir train; give a new folder by --out")
    return False


def make_project(out: Path, name: str, recipe: Recipe) -> Added:
    """Makes a project of one data set, as a git repository with one commit; whole or not at all.

    Args:
        out: the new folder, or an empty one.
        name: name of the data set.
        recipe: the training.

    Returns:
        The report of the contents of the folder.

    Raises:
        InputError: the folder of images or the annotations are invalid, images cannot be decoded, there are too few
            images, or `out` is inside the folder of images.
    """
    if real_path(recipe.folder) in real_path(absolute(out)).parents:
        raise InputError(f"{absolute(out)}: is inside {recipe.folder}, which is only read; give another place by --out")
    _require_triplets(recipe)
    with atomic_folder(absolute(out)) as project:
        copy_pipeline(project)
        _git(project, "init", "--quiet", "--initial-branch", "main")
        _link_models(project, name, recipe)
        added = add_dataset(
            project,
            name,
            "folder",
            recipe.folder,
            _LIKE,
            annotations=recipe.annotations,
            chosen=True,
            changes=recipe.values(name) | recipe.baselines(name) | recipe.endpoints(),
        )
        _require_usable(added, recipe)
        note_annotations(project, recipe)
        _commit(project, f"Add the data set {name}", ".")
    return added


def _require_triplets(recipe: Recipe) -> None:
    """Raises InputError if the family learns from annotated triplets and there are none."""
    if recipe.annotations is None or recipe.generated_only:
        return
    options = {"annotations": str(recipe.annotations)}
    if not open_layout("folder", recipe.folder, "skip", options).training_triplets():
        raise InputError(
            f"{recipe.annotations}: has no row of train with its images, and family {recipe.family} learns from such; "
            "add some, or give --family zs"
        )


def _link_models(project: Path, name: str, recipe: Recipe) -> None:
    """Links the models on this machine; git ignores what the links lead to, which `dvc exp run` would add to it."""
    folder = Path("data", "models", name)
    for place, origin in (recipe.links() | recipe.baseline_links()).items():
        link(project / folder / place, origin)
        if origin.is_dir():
            with (project / ".gitignore").open("a", encoding="utf-8") as file:
                file.write(f"/{(folder / place).as_posix()}/*\n")


def _require_usable(added: Added, recipe: Recipe) -> None:
    check, folder = added.check, recipe.folder
    assert check is not None, "the images were checked"
    if recipe.missing == "error" and not check.is_whole:
        raise InputError(_faults(check, folder))
    if added.contents.images < _FEWEST:
        raise InputError(
            f"{folder}: has {added.contents.images} training images, expected {_FEWEST} or more; name another folder"
        )


def _faults(check: Check, folder: Path) -> str:
    names = [fault.name for fault in (*check.missing, *check.broken)]
    return (
        f"{folder}: {len(names)} of {check.checked} images are absent or cannot be decoded "
        f"({some_names(names, _SHOWN)}); replace or remove them, or leave them out by --missing skip"
    )


def require_same(project: Path, name: str, recipe: Recipe) -> None:
    """Raises InputError unless a project is of this folder and training; its other settings may have changed."""
    data = project / "data" / "raw"
    if not (data / name).exists() or real_path(data / name) != real_path(recipe.folder):
        found = [str(real_path(place)) for place in sorted(data.iterdir())] if data.is_dir() else []
        raise InputError(f"{project}: is a project of {', '.join(found) or 'other data'}; give another --out")
    params = load_params(project / PARAMS_FILE)
    given = recipe.values(name) | {("datasets", name, "annotations"): _relative(recipe)}
    for path, value in given.items():
        if (there := _plain(written(path, params))) != value:
            raise InputError(
                f"{project / PARAMS_FILE}: {'.'.join(path)} is {there}, not {value} as asked now; type dvc repro there "
                "to go on with it, or give another --out"
            )
    for place, origin in recipe.links().items():
        if (there := real_path(project / "data" / "models" / name / place)) != real_path(origin):
            raise InputError(f"{project}: was made with {there}, not {origin}; give another --out")


def use_endpoints(project: Path, recipe: Recipe) -> None:
    """Writes the servers of a training that continues into the project's settings; no stage depends on them."""
    place = project / PARAMS_FILE
    params = load_params(place)
    moved = {path: urls for path, urls in recipe.endpoints().items() if _plain(written(path, params)) != urls}
    if moved:
        changed = set_values(place.read_text(encoding="utf-8"), moved, str(place))
        with atomic_file(place) as temporary:
            temporary.write_text(changed, encoding="utf-8")


def _relative(recipe: Recipe) -> str | None:
    """Returns the annotations as the settings name them: by their path from the folder if they are inside it."""
    file = recipe.annotations
    if file is None:
        return None
    return file.relative_to(recipe.folder).as_posix() if file.is_relative_to(recipe.folder) else file.as_posix()


def _plain(value: Any) -> Any:
    """Returns a value of the settings as the file has it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    return list(value) if isinstance(value, tuple) else value


def note_annotations(project: Path, recipe: Recipe) -> None:
    """Writes the hash of annotations outside the folder of images, so that a later change of them is seen."""
    if (digest := _outside_hash(recipe)) is not None:
        with atomic_file(project / _HASH_OF_RUN) as temporary:
            temporary.write_text(digest, encoding="ascii")


def annotations_changed(project: Path, recipe: Recipe) -> bool:
    """Whether annotations outside the folder of images, of which DVC sees no change, are others than those noted."""
    noted = project / _HASH_OF_RUN
    return noted.is_file() and _outside_hash(recipe) not in (None, noted.read_text(encoding="ascii"))


def _outside_hash(recipe: Recipe) -> str | None:
    """Returns the hash of annotations outside the folder of images; None if there are none."""
    file = recipe.annotations
    return None if file is None or file.is_relative_to(recipe.folder) else file_hash(file)


def reproduce(project: Path, force: bool = False) -> None:
    """Runs `dvc repro` in a project, and first mends what a crash left there.

    `force` also runs the stages whose inputs DVC sees unchanged. Raises InputError if a stage fails; the stage has then
    printed the reason.
    """
    for finding in examine(project, dry_run=False, may_remove_work=False):
        print(finding.line)
    sys.stdout.flush()
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    done = subprocess.run(command, cwd=project, env=_environment(), check=False)
    if done.returncode:
        raise InputError(
            f"{project}: the run stopped, for the reason above; remove it, and give the same command again"
        )


def _environment() -> Mapping[str, str]:
    """Returns the environment of DVC, in which `python`, which the stages call, is of this installation."""
    try:
        asked = subprocess.run(["python", "-c", "import sys; print(sys.prefix)"], capture_output=True, check=False)
    except OSError:  # there is none, or it cannot be executed
        asked = None
    if asked is not None and os.fsdecode(asked.stdout).strip() == sys.prefix:
        return os.environ
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def commit_run(project: Path, message: str) -> None:
    """Commits what a run wrote and the settings that it ran with, if they changed."""
    _commit(project, message, *(name for name in _OF_RUN if (project / name).exists()))


def _commit(project: Path, message: str, *names: str) -> None:
    """Commits files and folders, if they changed; in the name of the user, if git knows one."""
    _git(project, "add", "--", *names)
    if not _git(project, "status", "--porcelain", "--", *names):
        return
    known = subprocess.run(["git", "config", "user.email"], cwd=project, capture_output=True, check=False).stdout
    user = [] if known else ["-c", "user.name=spn4cir", "-c", "user.email=spn4cir@localhost"]
    _git(project, *user, "commit", "--quiet", "--message", message, "--", *names)


def _git(project: Path, *arguments: str) -> str:
    """Runs git. Raises InputError if it fails."""
    with disk_errors(project):
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        reason: Sequence[str] = done.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"{project}: git failed ({reason[-1]}); check git's settings and the disk")
    return done.stdout
