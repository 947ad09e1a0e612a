"""Paths are the same when they are packed, or made when they are asked for."""

import os
from pathlib import Path

from spn4cir.datasets.listed_paths import ListedPaths
from spn4cir.images.packed_paths import PackedPaths

PATHS = [Path("a.png"), Path("/data/00000.tar/é.jpg"), Path(), Path(os.fsdecode(b"in/\xff.png")), Path("a.png")]


def test_packed_paths_are_those_that_were_given() -> None:
    packed = PackedPaths(iter(PATHS))
    assert len(packed) == len(PATHS)
    assert [packed[position] for position in range(len(PATHS))] == PATHS
    assert len(PackedPaths([])) == 0


def test_listed_paths_are_below_the_folder() -> None:
    paths = ListedPaths(Path("root"), {"b": "./train/b.png", "a": "dev/00000.tar/a.jpg"})
    assert dict(paths) == {"b": Path("root/train/b.png"), "a": Path("root/dev/00000.tar/a.jpg")}
    assert list(paths) == ["b", "a"]
    assert "a" in paths
    assert paths.get("c") is None


def test_a_listed_path_may_differ_from_the_file_in_its_accents(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.png").touch()
    assert ListedPaths(tmp_path, {"one": "é.png"})["one"] == tmp_path / "e\u0301.png"
