"""Hashes of what a run was made of: of contents alone, so that they are the same on every machine."""

from collections.abc import Mapping
from pathlib import Path

from spn4cir.files import file_hash, tree_hash, value_hash, walk_once

_ANNOTATIONS = (".json", ".csv", ".parquet")


def input_hashes(root: Path, paths: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of the annotation files below `root`, and of each path.

    Images are not read: the file of the unique images names those of training, and the scored queries the others.
    """
    found = sorted(
        Path(place, name).relative_to(root).as_posix()
        for place, _, names in walk_once(root)
        for name in names
        if name.endswith(_ANNOTATIONS)
    )
    annotations = value_hash([[name, file_hash(root / name)] for name in found])
    return {"annotation files": annotations, **{name: tree_hash(path) for name, path in paths.items()}}
