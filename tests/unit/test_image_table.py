"""The table of the images of an index: read from columns, changed in memory, and written again."""

from array import array
from pathlib import Path

import numpy as np
import pytest

from spn4cir.search.encode import NewTargets
from spn4cir.search.image_columns import ImageColumns, IndexedImage
from spn4cir.search.image_files import ImageDigests, Stamp
from spn4cir.search.image_table import ImageTable
from spn4cir.search.index import ImageIndex
from spn4cir.search.read_images import PackedDigests, PackedStamps, ReadImages
from spn4cir.search.stored_targets import StoredTargets
from tests.helpers.memory import peak_bytes_each


def image(number: int, vector: int | None = None) -> IndexedImage:
    """An image; those of one vector have one crop."""
    vector = number if vector is None else vector
    digest, crop = number.to_bytes(32, "little"), vector.to_bytes(32, "big")
    return IndexedImage(f"/images/{number}", number, 2 * number, digest, crop, vector)


IMAGES = {f"é {number:03}.png": image(number, number - number % 2) for number in range(200)}
MORE = {"é 003.png": image(500), "a.png": image(7, 500), "z.png": image(600, 10)}


def columns(images: dict[str, IndexedImage]) -> ImageColumns:
    """The columns of images, in another order than that of their names."""
    names = sorted(images, reverse=True)
    return ImageColumns.of(
        names,
        (images[name].path for name in names),
        array("q", [images[name].size for name in names]),
        array("q", [images[name].modified for name in names]),
        bytearray(b"".join(images[name].digest for name in names)),
        bytearray(b"".join(images[name].crop for name in names)),
        np.array([images[name].vector for name in names], np.int64),
    )


@pytest.fixture(params=["memory", "file", "both", "many", "file and many"])
def table(request, tmp_path, monkeypatch) -> ImageTable:
    """The images in memory, in columns, and half of them in each; changes are as of a few images or of many."""
    names = list(IMAGES)
    first = names if request.param in ("memory", "file") else names[:100]
    made = ImageTable((name, IMAGES[name]) for name in first)
    if "file" in request.param or request.param == "both":
        made.write(tmp_path / "t.parquet")
        made = ImageTable.read(tmp_path / "t.parquet")
    if "many" in request.param:
        monkeypatch.setattr("spn4cir.search.image_table._IN_MEMORY", 0)
    updated, unused = made.updated(columns({name: IMAGES[name] for name in names if name not in made}), [])
    assert unused == []
    assert len(made) + len(updated) == len(first) + len(names)  # a change makes another table
    return updated


def test_images_are_found_by_name_vector_crop_and_digest(table):
    assert (len(table), sorted(table)) == (200, sorted(IMAGES))
    assert all(table[name] == table.get(name) == each for name, each in IMAGES.items())
    assert table.get("no.png") is None
    assert "no.png" not in table
    assert 3 not in table
    assert set(table.with_vector(12)) == {"é 012.png", "é 013.png"}
    assert set(table.with_digest(IMAGES["é 013.png"].digest)) == {"é 013.png"}
    assert table.vector_of(IMAGES["é 013.png"].crop) == 12
    assert not table.has_crop(b"x" * 32)
    assert not table.with_vector(13)


def test_changes_are_seen_and_written(table, tmp_path):
    """A vector is unused when its last image is removed, and a file of the changed table has all images."""
    assert table.new_vector_ids(2) == range(199, 201)
    table, unused = table.updated(columns(MORE), ["é 002.png", "é 010.png", "é 020.png", "é 021.png"])
    assert sorted(unused) == [2, 20]
    assert len(table) == 198
    assert set(table.with_vector(500)) == {"é 003.png", "a.png"}
    assert set(table.with_digest(image(7).digest)) == {"é 007.png", "a.png"}
    assert set(table.with_vector(10)) == {"é 011.png", "z.png"}
    assert table.vector_of(image(20).crop) is None
    assert table.new_vector_ids(1) == range(501, 502)
    table.write(tmp_path / "u.parquet")
    again = ImageTable.read(tmp_path / "u.parquet")
    assert list(again) == sorted(table)
    assert {name: again[name] for name in again} == {name: table[name] for name in table}
    again, unused = again.updated(columns({}), list(again))
    assert len(unused) == len({each.vector for each in IMAGES.values()} - {2, 20}) + 1
    assert (len(again), list(again)) == (0, [])


def test_a_table_without_images(tmp_path):
    empty = ImageTable()
    assert (len(empty), list(empty), empty.has_crop(b"a" * 32), empty.new_vector_ids(1)) == (0, [], False, range(1))
    empty.write(tmp_path / "t.parquet")
    assert len(ImageTable.read(tmp_path / "t.parquet")) == 0


def test_a_file_without_a_column_is_refused(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(KeyError):
        ImageColumns.read(tmp_path / "t.parquet")


def test_an_image_in_memory_takes_little_beside_its_own_values():
    """Beside the image itself: an entry in four dictionaries, and a list in two of them."""
    images = {str(number): image(number) for number in range(4_000)}

    def build(count: int) -> ImageTable:
        return ImageTable([(name, images[name]) for name in list(images)[:count]])

    assert peak_bytes_each(build) < 550


def test_many_new_images_take_little_more_than_their_values():
    """A name, a path, two hashes and three numbers; with that many images, they become columns."""

    def build(count: int) -> ImageTable:
        names = [f"{number:030}" for number in range(count)]
        stamps = PackedStamps.of(Stamp(f"/{name}", 1, 1) for name in names)
        digests = PackedDigests()
        for number in range(count):
            digests.append(ImageDigests(number.to_bytes(32, "big"), bytes(32)), number)
        assert stamps[1] == Stamp(f"/{names[1]}", 1, 1)
        assert digests[1] == ImageDigests((1).to_bytes(32, "big"), bytes(32))
        index = ImageIndex()
        new = NewTargets(count, (1,), StoredTargets(1, 1))
        new.stored.append(np.arange(count), np.zeros((count, 1, 1), np.float32))
        index.update(index.columns(ReadImages(names, stamps, digests)), [], new)
        return index.table

    assert peak_bytes_each(build, (20_000, 40_000)) < 450
