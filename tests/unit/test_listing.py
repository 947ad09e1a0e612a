"""Listings contain triplets and the hashes of their images; equal files count once; supervised families have none."""

import errno
import shutil
import tracemalloc
from pathlib import Path

import pytest

from spn4cir.datasets import json_records
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from spn4cir.json_files import write_json
from spn4cir.positives import listing
from spn4cir.positives.listing import read_listed_images, read_listing, read_queries, write_listing
from spn4cir.training.epoch_plan import epoch_generator, triplet_rows
from spn4cir.types import Triplet
from tests.helpers.layouts import draw
from tests.helpers.memory import peak_bytes_each


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate("abc"):
        draw(tmp_path / "images" / f"{name}.png", number)
    shutil.copy(tmp_path / "images" / "a.png", tmp_path / "images" / "twin.png")
    return tmp_path / "images"


def triplet(reference: str, target: str, *texts: str) -> Triplet:
    return Triplet(reference, texts or ("is red",), target, generated=True)


def test_what_was_written_is_read(images: Path, tmp_path: Path) -> None:
    triplets = (triplet("a", "b", "is red", "red, not blue"), triplet("b", "c"))
    write_listing(triplets, lambda name: images / f"{name}.png", tmp_path / "l.json")
    listing = read_listing(tmp_path / "l.json")
    assert listing.triplets == triplets
    assert listing.unique.gallery.names == ("a", "b", "c")
    assert listing.unique.gallery.paths == tuple(images / f"{name}.png" for name in "abc")


@pytest.mark.parametrize(
    "content",
    ['{"triplets": 3}', '{"images": {"a": 1}}', '{"images": {"a": ["b", "x"]}}', '{"images": {"a": [5, "00"]}}', "[1]"],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "l.json").write_text(content)
    for read in (read_listing, read_listed_images, read_queries):
        with pytest.raises(InputError, match=r"l\.json: is not a listing"):
            read(tmp_path / "l.json")


def test_writing_takes_little_memory_beside_the_triplets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "is_there", lambda path: True)
    monkeypatch.setattr(listing, "content_hash", lambda path: f"{int(path.name):064x}")
    triplets = {count: [triplet(str(number), str(number + 1)) for number in range(count)] for count in (1_000, 4_000)}

    def write(count: int) -> None:
        write_listing(triplets[count], lambda name: tmp_path / name, tmp_path / "l.json")

    assert peak_bytes_each(write, (1_000, 4_000)) < 300


def test_reading_and_planning_an_epoch_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "is_there", lambda path: True)
    monkeypatch.setattr(listing, "content_hash", lambda path: f"{int(path.name):064x}")
    text = "is brown, has long sleeves and no buttons"
    for count in (1_000, 4_000):
        triplets = [triplet(str(number), str(number + 1), text) for number in range(count)]
        write_listing(triplets, lambda name: tmp_path / name, tmp_path / f"{count}.json")

    def plan(count: int) -> None:
        found = read_listing(tmp_path / f"{count}.json")
        rows = triplet_rows(found.triplets, found.unique.row, "x")
        assert len(rows.plan(10, epoch_generator(0, 1))) == count // 10

    # Each image takes about 250 bytes, each triplet 120.
    assert peak_bytes_each(plan, (1_000, 4_000)) < 600


def test_reading_the_images_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of the names and the dictionary of rows take most of it, and the triplets none."""
    monkeypatch.setattr(json_records, "_BLOCK", 1 << 14)

    def write_and_read(count: int) -> None:
        names = [f"{number:09d}" for number in range(count)]
        digests = (f"{number:064x}" for number in range(count))
        images = {name: (f"data/train/{name}.jpg", digest) for name, digest in zip(names, digests, strict=True)}
        path = tmp_path / f"{count}.json"
        if not path.exists():
            write_json(path, {"triplets": ([name, names[0], ["is red, " * 9]] for name in names), "images": images})
        del names, images
        tracemalloc.reset_peak()
        assert len(read_listed_images(path).gallery) == count

    assert peak_bytes_each(write_and_read) < 400


def test_equal_files_are_one_image(images: Path, tmp_path: Path) -> None:
    write_listing([triplet("a", "b"), triplet("twin", "b")], lambda name: images / f"{name}.png", tmp_path / "l.json")
    unique = read_listing(tmp_path / "l.json").unique
    assert unique.gallery.names == ("a", "b")
    assert unique.row == {"a": 0, "b": 1, "twin": 0}


def test_another_image_under_the_same_name_changes_the_listing(images: Path, tmp_path: Path) -> None:
    """Stages that depend only on the listing therefore run again."""
    hashes = []
    for number in (0, 7):
        draw(images / "a.png", number)
        write_listing([triplet("a", "b")], lambda name: images / f"{name}.png", tmp_path / "l.json", workers=2)
        hashes.append(file_hash(tmp_path / "l.json"))
    assert hashes[0] != hashes[1]


def test_no_triplets_give_an_empty_listing_that_nothing_can_be_learned_from(tmp_path: Path) -> None:
    write_listing((), lambda name: tmp_path / name, tmp_path / "l.json")
    assert (tmp_path / "l.json").read_text() == "{}\n"
    with pytest.raises(InputError, match=r"l\.json: lists no generated triplets; set positives"):
        read_listing(tmp_path / "l.json")


def test_an_absent_image_is_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: the image 'gone' of a generated triplet is absent"):
        write_listing([triplet("a", "gone")], lambda name: images / f"{name}.png", tmp_path / "l.json")


def test_an_image_that_cannot_be_read_is_named_and_not_the_listing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content_hash(path: Path) -> str:
        if path.stem == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return file_hash(path)

    monkeypatch.setattr(listing, "content_hash", content_hash)
    with pytest.raises(PermissionError) as raised:
        write_listing([triplet("a", "b")], lambda name: images / f"{name}.png", tmp_path / "l.json")
    assert raised.value.filename == str(images / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
