"""Copies the pipeline to a new project: `dvc.yaml`, `params.yaml`, the stages and the package that they run.

A project has its own copy of the code, as a clone of the repository has: DVC reruns what an edit of it changes, and
another version of the installed package changes nothing. The files come from the repository that the package is
installed from or, for a wheel, from the folder `pipeline` of the package.
"""

import shutil
from pathlib import Path

from spn4cir.config.load import PACKAGE, published_file
from spn4cir.config.params import PARAMS_FILE
from spn4cir.errors import InputError

FILES = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")
_STAGES = "stages"
# The folder of a wheel that contains the pipeline's files; pyproject.toml lists them.
_SHIPPED = "pipeline"


def copy_pipeline(project: Path, package: Path = PACKAGE) -> None:
    """Copies the pipeline's files to a folder.

    Args:
        project: the new project.
        package: folder of the installed package.

    Raises:
        InputError: the installation lacks a file.
    """
    shipped = package / _SHIPPED
    source = shipped if shipped.is_dir() else package.parent
    files = {name: source / name for name in FILES} | {PARAMS_FILE: published_file(package)}
    absent = [path for path in (*files.values(), source / _STAGES / "__init__.py") if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]}: the installed package lacks this file; install it again from the repository")
    for name, path in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, project / name)
    left_out = shutil.ignore_patterns("__pycache__", _SHIPPED, PARAMS_FILE)
    shutil.copytree(package, project / package.name, copy_function=shutil.copyfile, ignore=left_out)
    shutil.copytree(source / _STAGES, project / _STAGES, copy_function=shutil.copyfile, ignore=left_out)
