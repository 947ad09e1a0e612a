"""Reads and changes a user's project: its settings, valid names of data sets, links to their folders."""

import os
import re
import shlex
import subprocess
from pathlib import Path

from spn4cir.config.load import load_params
from spn4cir.config.params import PARAMS_FILE
from spn4cir.errors import InputError
from spn4cir.files import disk_errors
from spn4cir.readable import real_path

# Words that YAML, or the overrides of `dvc exp run -S`, do not read as names.
_WORDS = frozenset({"true", "false", "null", "inf", "nan"})


def read_project(project: Path) -> str:
    """Reads the text of `params.yaml`. Raises InputError if the folder is not the root of a pipeline."""
    for file in (PARAMS_FILE, "dvc.yaml"):
        if not (project / file).is_file():
            raise InputError(
                f"{(project / file).absolute()}: no such file; run add-dataset in the pipeline's folder, which has "
                f"{PARAMS_FILE} and dvc.yaml, or in one below it"
            )
    load_params(project / PARAMS_FILE)
    return (project / PARAMS_FILE).read_bytes().decode()  # with its own line ends


def check_name(name: str) -> None:
    """Raises InputError for a name that a data set cannot have."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,99}", name) or name.lower() in _WORDS:
        raise InputError(
            f"'{name}' is not a valid name; begin it with a letter, and use at most 100 letters, digits, '_' and '-' "
            f"(none of {', '.join(sorted(_WORDS))})"
        )


def is_linked(place: Path, folder: Path) -> bool:
    """Whether `place` is the folder or a link to it.

    Raises InputError if it is anything else, if git ignores it, or if it cannot be made.
    """
    check_above(place)
    if place.exists() and real_path(place) == real_path(folder):
        return True
    if os.path.lexists(place):
        what = f"a link to {place.readlink()}" if place.is_symlink() else "a folder or a file"
        raise InputError(f"{place}: {what} is there already; remove it, or choose another name")
    if _ignored_by_git(place):
        raise InputError(
            f"{place}: git ignores this place (DVC writes it, or a .gitignore names it), so that experiments would "
            "miss the link; choose another name"
        )
    return False


def check_above(place: Path) -> None:
    """Raises InputError if something that is no folder is above a place that will be written."""
    above = next(each for each in place.absolute().parents if os.path.lexists(each))
    if not above.is_dir():
        raise InputError(f"{above}: is not a folder, and {place} will be written below it; remove or rename it")


def _ignored_by_git(place: Path) -> bool:
    """Whether git ignores the place; False without git or outside a repository."""
    standing = next(folder for folder in place.absolute().parents if folder.is_dir())
    try:
        command = ["git", "check-ignore", "--quiet", str(place.absolute())]
        return subprocess.run(command, cwd=standing, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def change_folder(project: Path) -> list[str]:
    """Returns the command, if one is needed, that changes to the project's folder."""
    return [] if project == Path() else [f"  cd {shlex.quote(str(project))}"]


def link(place: Path, folder: Path) -> None:
    """Makes `place` a link to the folder."""
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder)


def absolute(path: Path) -> Path:
    """Returns the absolute path, without resolving links."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
