"""Texts and paths are the same when they are packed, or made when they are asked for."""

import os
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from spn4cir.datasets.listed_paths import ListedPaths
from spn4cir.packed import PackedPaths, PackedTexts, TextsByHash
from spn4cir.types import Gallery
from tests.helpers.memory import peak_bytes_each

PATHS = [Path("a.png"), Path("/data/00000.tar/é.jpg"), Path(), Path(os.fsdecode(b"in/\xff.png")), Path("a.png")]


@pytest.mark.parametrize("pack", [PackedPaths, lambda paths: PackedPaths(PackedPaths(paths))])
def test_packed_paths_are_those_that_were_given(pack: Callable[[Iterable[Path]], PackedPaths]) -> None:
    packed = pack(iter(PATHS))
    assert len(packed) == len(PATHS)
    assert [packed[position] for position in range(len(PATHS))] == list(packed) == PATHS
    assert (packed[-1], packed[1:4], packed[::-2]) == (PATHS[-1], PATHS[1:4], PATHS[::-2])
    assert packed == tuple(PATHS) == packed
    assert packed != PATHS[1:]
    assert PATHS[2] in packed
    with pytest.raises(IndexError):
        packed[len(PATHS)]
    assert len(PackedPaths([])) == 0


def test_absolute_paths_are_not_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    texts = PackedTexts(["/a/b.png", "/c.png"])
    assert PackedPaths(texts).absolute_texts() is texts
    mixed = [Path("/a/b.png"), Path("d/../c.png"), Path()]
    assert PackedPaths(mixed).absolute_texts() == ["/a/b.png", f"{tmp_path}/d/../c.png", str(tmp_path)]


def test_the_last_text_of_a_hash_is_returned() -> None:
    texts = TextsByHash()
    for key, text in ((b"a", "red"), (b"b", "\ud800 or é"), (b"a", ""), (b"c", "blue")):
        texts[key] = text
    assert [texts.get(key) for key in (b"a", b"b", b"c", b"d")] == ["", "\ud800 or é", "blue", None]
    assert len(texts) == 3


def test_a_part_of_packed_texts_is_sent_alone() -> None:
    packed = PackedTexts(f"{number:09d}" for number in range(10_000))
    assert pickle.loads(pickle.dumps(packed[100:116])) == [f"{number:09d}" for number in range(100, 116)]
    assert len(pickle.dumps(packed[100:116])) < 1_000


def test_the_paths_of_a_gallery_take_little_more_than_their_texts() -> None:
    def make(count: int) -> None:
        names = ("a",) * count
        paths = PackedPaths(PackedTexts(f"data/raw/scale/train/00000.tar/{number:09d}.jpg" for number in range(count)))
        assert len(Gallery(names, paths).paths) == count

    assert peak_bytes_each(make) < 130


def test_listed_paths_are_below_the_folder() -> None:
    paths = ListedPaths(Path("root"), {"b": "./train/b.png", "a": "dev/00000.tar/a.jpg"})
    assert dict(paths) == {"b": Path("root/train/b.png"), "a": Path("root/dev/00000.tar/a.jpg")}
    assert list(paths) == ["b", "a"]
    assert "a" in paths
    assert paths.get("c") is None


def test_a_listed_path_may_differ_from_the_file_in_its_accents(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.png").touch()
    assert ListedPaths(tmp_path, {"one": "é.png"})["one"] == tmp_path / "e\u0301.png"
