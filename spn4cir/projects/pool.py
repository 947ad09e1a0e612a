"""Links a pool of further images to a data set, or writes the placeholder of a data set without a pool."""

import os
import shutil
from pathlib import Path

from spn4cir.config.params import Params
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.projects.models import PLACEHOLDER
from spn4cir.projects.project import absolute, link
from spn4cir.readable import real_path

_NO_POOL = """\
No pool. The family `zs_cc` draws its triplets from a CC3M folder that is linked here: give it to add-dataset by --pool.
This folder is a declared dependency of the pipeline.
"""


def find_pool(place: Path, params: Params, name: str, pool: Path | None) -> list[str]:
    """Returns a line that counts the pool's images. Raises InputError for an unreadable pool or an occupied place."""
    if pool is None:
        return []
    folder, settings = absolute(pool), params.datasets[name]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the root of a CC3M pool")
    if os.path.lexists(place) and real_path(place) != real_path(folder) and not _is_placeholder(place):
        raise InputError(f"{place}: another pool is there already; remove it, or choose another name")
    images = Cc3m(folder, settings.pool, settings.missing).images()
    return [f"  pool        {len(images)} images"]


def _is_placeholder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and [file.name for file in place.iterdir()] == [PLACEHOLDER]


def add_pool(place: Path, pool: Path | None) -> None:
    """Links the pool, or writes a placeholder without a pool: stages declare the place as a dependency."""
    if pool is not None:
        if _is_placeholder(place):
            shutil.rmtree(place)
        if not os.path.lexists(place):
            link(place, absolute(pool))
    elif not os.path.lexists(place):
        with atomic_file(place / PLACEHOLDER) as temporary:
            temporary.write_text(_NO_POOL, encoding="utf-8")
