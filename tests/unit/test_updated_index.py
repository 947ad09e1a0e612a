"""An index that is changed, saved and loaded again and again: its hits are those of a fresh exact ranking."""

from array import array
from pathlib import Path

import numpy as np
import pytest

from spn4cir.search.encode import NewTargets
from spn4cir.search.image_columns import ImageColumns
from spn4cir.search.image_table import ImageTable
from spn4cir.search.index import ImageIndex
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.vectors import KindSettings, Vectors

DIM = 16


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    drawn = rng.standard_normal((count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def change(index: ImageIndex, added: dict[str, np.ndarray], removed: list[str]) -> None:
    """Adds images with these targets, and removes others."""
    names, first = list(added), index.table.next_vector
    hashes = bytearray(b"".join(name.encode().ljust(32, b"-") for name in names))
    zeros = array("q", [0] * len(names))
    ids = np.arange(first, first + len(names))
    columns = ImageColumns.of(names, names, zeros, zeros, hashes, hashes, ids)
    stored = index.store(len(names), 1, DIM)
    stored.append(np.arange(len(names)), np.array([added[name] for name in names]).reshape(-1, 1, DIM))
    index.update(columns, removed, NewTargets(len(names), (DIM,), stored) if names else NewTargets())


def reloaded(index: ImageIndex, folder: Path) -> ImageIndex:
    folder.mkdir()
    held = index.vectors
    held.write(folder)
    index.table.write(folder / "t.parquet")
    vectors = Vectors.read(folder, held.kind, 1, held.settings, (held.candidates, held.recall))
    return ImageIndex(ImageTable.read(folder / "t.parquet", vectors.next_id), vectors, (DIM,))


def best(index: ImageIndex, query: np.ndarray, count: int) -> set[str]:
    ((ids, scores),) = index.vectors.best(query[None], [count], [lambda targets: targets[:, 0] @ query])
    first = ids[np.argsort(-scores, kind="stable")][:count].tolist()
    return {name for each in first for name in index.table.with_vector(each)}


@pytest.mark.parametrize("kind", ["exact", "ivf", "ivf-pq"])
@pytest.mark.parametrize("seed", range(3))
def test_rounds_of_changes_keep_every_image(tmp_path, kind, seed):
    """The last images are removed often: their ids are the largest, and must not be used again."""
    rng = np.random.default_rng(seed)
    index = ImageIndex()
    index.settings = KindSettings(kind, 1.0)
    targets: dict[str, np.ndarray] = {}
    for step in range(8):
        removed = list(targets)[len(targets) - rng.integers(4) :]
        removed += [name for name in list(targets)[: len(targets) - len(removed)] if rng.random() < 0.05]
        count = 300 if step == 0 else int(rng.integers(4))
        added = dict(zip((f"{step}-{row}" for row in range(count)), unit(rng, count), strict=True))
        change(index, added, removed)
        targets = {name: value for name, value in (targets | added).items() if name not in removed}
        if rng.random() < 0.8:
            index = reloaded(index, tmp_path / str(step))
        assert (len(index), len(index.vectors)) == (len(targets), len(targets))
        names, matrix, query = np.array(list(targets)), np.array(list(targets.values())), unit(rng, 1)[0]
        wanted = set(names[np.argsort(-(matrix @ query))[:9]])
        assert len(best(index, query, 9) & wanted) >= (9 if kind != "ivf-pq" else 8)
        assert best(index, matrix[-1], 1) == {names[-1]}


def test_the_ids_of_removed_images_are_not_used_again_after_a_reload(tmp_path):
    """The stored targets forget the highest third, which is compacted away; the marks of the lists do not."""
    rng = np.random.default_rng(0)
    index = ImageIndex()
    index.settings = KindSettings("ivf", 1.0)
    targets = dict(zip(map(str, range(300)), unit(rng, 300), strict=True))
    change(index, targets, [])
    change(index, {}, list(targets)[200:])
    index = reloaded(index, tmp_path / "a")
    assert index.table.next_vector == index.vectors.next_id == 300
    added = dict(zip("abc", unit(rng, 3), strict=True))
    change(index, added, [])
    index = reloaded(index, tmp_path / "b")
    assert [best(index, target, 1) for target in added.values()] == [{"a"}, {"b"}, {"c"}]
    assert index.vectors.next_id == 303


@pytest.mark.parametrize("alive", [[1, 1, 0, 0, 1], [1, 1, 0, 0, 0]])
def test_a_file_with_an_id_that_was_used_again_is_read(tmp_path, alive):
    """An earlier version gave the largest id again after its image was removed."""
    targets = unit(np.random.default_rng(0), 5)[:, None]
    stored = StoredTargets(1, DIM)
    stored.append(np.arange(5), targets)
    stored.write(tmp_path / "a")
    np.save(tmp_path / "a" / "ids.npy", [[0, 1, 2, 2, 2], alive])
    again = StoredTargets.read(tmp_path / "a")
    assert (len(again), again.next_id) == (sum(alive), 3)
    assert np.array_equal(again.targets(again.ids), targets[np.flatnonzero(alive)])
    again.append(np.array([3]), targets[:1])
    again.write(tmp_path / "b")
    third = StoredTargets.read(tmp_path / "b")
    assert third.ids.tolist() == [*again.ids.tolist()]
    assert np.array_equal(third.targets(np.array([3])), targets[:1])


@pytest.mark.parametrize("content", [[[0, 2, 1], [1, 1, 1]], [[0, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 1, 0]]])
def test_ids_without_an_order_are_refused(tmp_path, content):
    stored = StoredTargets(1, DIM)
    stored.append(np.arange(3), unit(np.random.default_rng(0), 3)[:, None])
    stored.write(tmp_path / "a")
    np.save(tmp_path / "a" / "ids.npy", content)
    with pytest.raises(ValueError, match=r"a/ids.npy: the ids are not sorted, or two images have the same one"):
        StoredTargets.read(tmp_path / "a")
