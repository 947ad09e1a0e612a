"""The table of the images of an index: read from columns, changed in memory, and written again."""

from pathlib import Path

import pytest

from spn4cir.search.image_columns import ImageColumns, IndexedImage
from spn4cir.search.image_table import ImageTable
from tests.helpers.memory import peak_bytes_each


def image(number: int, vector: int | None = None) -> IndexedImage:
    """An image; those of one vector have one crop."""
    vector = number if vector is None else vector
    digest, crop = number.to_bytes(32, "little"), vector.to_bytes(32, "big")
    return IndexedImage(f"/images/{number}", number, 2 * number, digest, crop, vector)


IMAGES = {f"é {number:03}.png": image(number, number - number % 2) for number in range(200)}
MORE = {"é 003.png": image(500), "a.png": image(7, 500), "z.png": image(600, 10)}


@pytest.fixture(params=["memory", "file", "both"])
def table(request, tmp_path) -> ImageTable:
    """The images in memory, in the columns of a file, and half of them in each."""
    names = list(IMAGES)
    first = names if request.param != "both" else names[:100]
    made = ImageTable((name, IMAGES[name]) for name in first)
    if request.param != "memory":
        made.write(tmp_path / "t.parquet")
        made = ImageTable.read(tmp_path / "t.parquet")
    made.update({name: IMAGES[name] for name in names if name not in made}, [])
    return made


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
    assert table.update(MORE, ["é 002.png", "é 010.png", "é 020.png", "é 021.png"]) == [2, 20]
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
    assert again.update({}, list(again)) != []
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
