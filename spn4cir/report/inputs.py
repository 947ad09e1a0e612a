"""Hashes of a run's inputs. Only contents are hashed, so that the hashes are equal on all machines."""

from collections.abc import Mapping
from pathlib import Path

from spn4cir.files import file_hash, tree_hash, value_hash, walk_once

_ANNOTATIONS = (".json", ".csv", ".parquet")


def input_hashes(root: Path, paths: Mapping[str, Path]) -> dict[str, str]:
    """Returns sha256 hashes of the annotation files below `root` (one for all) and of each path.

    Images are not hashed: the file of unique images names the training images, and the scored queries name the others.
    """
    found = sorted(
        Path(place, name).relative_to(root).as_posix()
        for place, _, names in walk_once(root)
        for name in names
        if name.endswith(_ANNOTATIONS)
    )
    annotations = value_hash([[name, file_hash(root / name)] for name in found])
    return {"annotation files": annotations, **{name: tree_hash(path) for name, path in paths.items()}}
