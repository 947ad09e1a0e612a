"""Names whose accents a Mac took apart are found, in every layout, and only where the exact name is not there."""

import csv
import json
import os
from pathlib import Path
from unicodedata import normalize

import pytest

from spn4cir.datasets import open_benchmark, open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.images.spelling import Spellings, spelled
from spn4cir.projects.check import check_data
from spn4cir.types import Triplet
from tests.helpers.benchmarks import write_circo
from tests.helpers.layouts import change, draw, write, write_cirr, write_fashioniq, write_parquet
from tests.helpers.pools import names, write_part_files

WHOLE = normalize("NFC", "café")
APART = normalize("NFD", WHOLE)
FORMS = pytest.mark.parametrize(("said", "there"), [(WHOLE, APART), (APART, WHOLE), (WHOLE, WHOLE), (APART, APART)])


def rewrite(folder: Path, old: str, new: str) -> None:
    """Puts a name into all annotations."""
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(json.dumps(old)[1:-1], new), encoding="utf-8")


def test_forms_differ() -> None:
    assert WHOLE != APART
    assert len(APART) == len(WHOLE) + 1


def test_the_exact_name_comes_first(tmp_path: Path) -> None:
    found = Spellings([APART, WHOLE, "plain"], tmp_path)
    assert (found.find(WHOLE), found.find(APART)) == (WHOLE, APART)
    assert found.find("plain") is None  # a name of ASCII letters is looked up as it is written, or not at all
    assert found.find("thé") is None


def test_two_names_that_may_be_meant_are_one_line(tmp_path: Path) -> None:
    """Of two accents, each name has another one taken apart."""
    first, second = normalize("NFD", "é") + "è", "é" + normalize("NFD", "è")
    with pytest.raises(InputError, match=r"may be '.*' and '.*', which differ in how .*; rename one") as raised:
        Spellings([first, second], tmp_path).find("éè")
    assert "\n" not in str(raised.value)


@FORMS
def test_a_path_is_found_through_its_folders(tmp_path: Path, said: str, there: str) -> None:
    path = draw(tmp_path / there / f"{there}.png", 1)
    assert spelled(tmp_path, f"{said}/{said}.png") == path
    absent = tmp_path / said / "plain.png"
    assert spelled(tmp_path, f"{said}/plain.png") == absent
    draw(tmp_path / there / "plain.png", 1)
    assert spelled(tmp_path, f"{said}/plain.png").is_file()


def test_a_folder_that_changes_is_listed_again(tmp_path: Path) -> None:
    assert spelled(tmp_path, f"{WHOLE}.png") == tmp_path / f"{WHOLE}.png"
    listed = tmp_path.stat().st_mtime_ns
    path = draw(tmp_path / f"{APART}.png", 1)
    os.utime(tmp_path, ns=(listed + 1, listed + 1))  # not in one tick of the file system's clock
    assert spelled(tmp_path, f"{WHOLE}.png") == path


@FORMS
def test_fashioniq(tmp_path: Path, said: str, there: str) -> None:
    root = write_fashioniq(tmp_path)
    for split in ("train", "val"):
        rewrite(root, f"dress-{split}-1", f"{said}-{split}")
        path = root / "images" / f"dress-{split}-1.png"
        path.rename(path.with_name(f"{there}-{split}.png"))
    layout = open_layout("fashioniq", root, "error")
    assert len(layout.training_triplets()) == 18
    assert f"{said}-train" in layout.training_gallery().names
    assert [len(split.triplets) for split in layout.evaluation_splits()] == [6, 6, 6]
    assert all(image.path.is_file() for image in layout.caption_images("split"))
    check = check_data(layout, 0)
    assert (check.is_whole, check.unlisted) == (True, ())


@FORMS
def test_cirr(tmp_path: Path, said: str, there: str) -> None:
    root = write_cirr(tmp_path)
    rewrite(root, "train-0-0-img1", f"{said}-1")
    (root / "train" / "0" / "train-0-0-img1.png").rename(root / "train" / "0" / f"{there}-1.png")
    layout = open_layout("cirr", root, "error")
    assert len(layout.training_triplets()) == 12
    assert all(path.is_file() for path in layout.training_gallery().paths)
    check = check_data(layout, 0)
    assert (check.is_whole, check.unlisted) == (True, ())


@FORMS
def test_circo(tmp_path: Path, said: str, there: str) -> None:
    root = write_circo(tmp_path)
    folder = root / "COCO2017_unlabeled"

    def rename(content: dict) -> None:
        content["images"][3]["file_name"] = f"{said}.jpg"

    change(folder / "annotations" / "image_info_unlabeled2017.json", rename)
    (folder / "unlabeled2017" / f"{28:012d}.jpg").rename(folder / "unlabeled2017" / f"{there}.jpg")
    (val,) = open_benchmark("circo", root, "error").evaluation_splits()
    assert len(val.gallery) == 60


@FORMS
def test_a_folder(tmp_path: Path, said: str, there: str) -> None:
    """Triplets and groups have the names of the folder's images, generated triplets of a file too."""
    root = tmp_path / "shop"
    for name in (f"{there}/1", f"{there}/2", "3", "4"):
        draw(root / f"{name}.png", len(name) + int(name[-1]))
    one, two = f"{said}/1.png", f"{said}/2.png"
    rows = [
        ["reference", "target", "text", "split", "group"],
        [one, two, "red", "train", ""],
        [two, "3.png", "red", "val", f"{one};{two};3.png"],
    ]
    with (root / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    layout = open_layout("folder", root, "error", {"annotations": "t.csv"})
    (triplet,) = layout.training_triplets()
    assert (triplet.reference_name, triplet.target_name) == (f"{there}/1.png", f"{there}/2.png")
    assert all(path.is_file() for path in layout.training_gallery().paths)
    (val,) = layout.evaluation_splits()
    assert val.triplets[0].subset_names == (f"{there}/1.png", f"{there}/2.png", "3.png")
    record = layout.generated_record(Triplet(one, ("x",), two), "a", "b")
    (read,) = layout.read_generated(write(tmp_path / "generated.json", [record]))
    assert read.reference_name == f"{there}/1.png"
    check = check_data(layout, 0)
    assert (check.is_whole, check.unlisted) == (True, ("4.png",))


@FORMS
def test_a_table_of_names(tmp_path: Path, said: str, there: str) -> None:
    draw(tmp_path / f"{there}.png", 1)
    draw(tmp_path / "b.png", 2)
    columns = {
        "reference": [f"{said}.png"] * 2,
        "target": ["b.png"] * 2,
        "text": ["red"] * 2,
        "split": ["train", "val"],
    }
    write_parquet(tmp_path / "rows.parquet", columns)
    layout = open_layout("table", tmp_path, "error")
    assert len(layout.training_triplets()) == 1
    assert all(path.is_file() for path in layout.training_gallery().paths)
    assert check_data(layout, 0).is_whole


@FORMS
def test_a_pool(tmp_path: Path, said: str, there: str) -> None:
    first, second, _ = names(0)
    root = write_part_files(tmp_path, parts=(0,), image=lambda name: f"/far/{said if name == first else name}.jpg")
    (root / "images" / f"{first}.jpg").rename(root / "images" / f"{there}.jpg")
    pool = Cc3m(root, None, "error")
    assert [image.name for image in pool.images()][:2] == [said, second]
    assert pool.images()[0].path == root / "images" / f"{there}.jpg"
    record = {**pool.generated_record(Triplet(said, ("x",), second)), "reference_name": there}
    (read,) = pool.read_generated(write(tmp_path / "generated.json", [record]))
    assert read.reference_name == said


def test_a_folder_of_categories_has_a_hint(tmp_path: Path) -> None:
    """An image that is a folder further down, or in another one."""
    root = write_fashioniq(tmp_path)
    (root / "images" / "dress").mkdir()
    (root / "images" / "dress-val-1.png").rename(root / "images" / "dress" / "dress-val-1.jpg")
    (fault,) = check_data(open_layout("fashioniq", root, "error"), 0).missing
    where = "images/dress/dress-val-1.jpg"
    assert fault.reason == f"is not there, but {where} is: move or link it to the folder images"
