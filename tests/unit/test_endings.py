"""Endings of image files, and the count of skipped files wherever a folder is read."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, features

from spn4cir.datasets import open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.datasets.shards import image_id
from spn4cir.errors import InputError
from spn4cir.images import endings
from spn4cir.images.decoding import open_image
from spn4cir.images.endings import image_endings, is_image, passed_over, passed_over_line
from spn4cir.images.folders import folder_gallery
from spn4cir.projects.check import check_data
from spn4cir.projects.check_lines import check_lines
from tests.helpers.layouts import draw, write_fashioniq, write_folder
from tests.helpers.pools import names, write_folders, write_part_files, write_tars

SAVED = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".tga", ".webp", ".avif")


def installed(ending: str) -> bool:
    return ending not in (".webp", ".avif") or features.check(ending[1:])


@pytest.mark.parametrize("ending", SAVED)
def test_what_pillow_reads_is_an_image(tmp_path: Path, ending: str) -> None:
    """In both cases of letters; the file is found in a folder and can be decoded."""
    if not installed(ending):
        pytest.skip(f"this Pillow was built without {ending}")
    path = draw(tmp_path / f"a{ending}", 1)
    path.with_suffix(ending.upper()).write_bytes(path.read_bytes())
    gallery = folder_gallery(tmp_path)
    assert gallery.names == (f"a{ending.upper()}", f"a{ending}")
    assert [open_image(path).size for path in gallery.paths] == [(32, 32)] * 2


@pytest.mark.parametrize(
    "name",
    ["a.pdf", "a.ps", "a.eps", "a.mpg", "a.psd", "a.ico", "a.h5", "a.fits", "a.txt", "a.heic", "a", "jpg", ".png"],
)
def test_other_files_are_none(name: str) -> None:
    assert not is_image(name)


def test_a_format_that_pillow_was_built_without_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are skipped and counted, rather than reported as broken one by one."""
    image_endings.cache_clear()
    monkeypatch.setattr(endings.features, "check", lambda feature: feature != "webp")
    assert not is_image("a.webp")
    assert is_image("a.jfif")
    monkeypatch.undo()
    image_endings.cache_clear()


def test_what_is_passed_over_is_reported_by_ending() -> None:
    """The most frequent first; annotations and hidden files do not count."""
    found = passed_over(["1.TXT", "2.txt", "a.psd", "b.png", "README", "t.csv", "t.json", "t.parquet", ".DS_Store"])
    assert found == {".txt": 2, ".psd": 1, "": 1}
    assert passed_over_line(found) == "passed over 4 files that are not images: 2 .txt, 1 without an ending, 1 .psd"
    assert passed_over_line(Counter({".heic": 1})) == "passed over 1 file that is not an image: 1 .heic"
    assert passed_over_line(Counter()) == ""


def test_a_gallery_says_what_it_passes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In sub-folders too; the folder layout, search and index read it by the same function."""
    root = write_folder(tmp_path / "shop")
    for name in ("mugs/a.heic", "pots/b.heic", "notes.txt"):
        (root / name).write_bytes(b"x")
    open_layout("folder", root, "error", {"annotations": "triplets.csv"}).training_gallery()
    line = "passed over 3 files that are not images: 2 .heic, 1 .txt"
    assert capsys.readouterr().err == f"{root}: {line}\n"
    check = check_data(open_layout("folder", root, "error", {"annotations": "triplets.csv"}), 0)
    assert check.as_dict()["passed_over"] == {".heic": 2, ".txt": 1}
    assert line in check_lines(check, whole=False)


def test_a_gallery_of_other_files_alone_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"no file ends in .png, .*\(passed over 1 file that is not an image: 1 .heic\)"
    ):
        folder_gallery(tmp_path)


def test_a_whole_data_set_passes_nothing_over(tmp_path: Path) -> None:
    check = check_data(open_layout("fashioniq", write_fashioniq(tmp_path), "error"), 0)
    assert check.passed_over == {}
    assert not [line for line in check_lines(check, whole=False) if "passed over" in line]


@pytest.mark.parametrize("ending", [".jfif", ".TIF", ".webp"])
def test_fashioniq_finds_a_name_by_any_ending(tmp_path: Path, ending: str) -> None:
    root = write_fashioniq(tmp_path)
    path = root / "images" / f"dress-val-2{ending}"
    Image.open(root / "images" / "dress-val-2.png").save(path, format=None if ending != ".TIF" else "TIFF")
    (root / "images" / "dress-val-2.png").unlink()
    layout = open_layout("fashioniq", root, "error")
    assert layout.image_path("dress-val-2") == path
    assert [len(split.triplets) for split in layout.evaluation_splits()] == [6, 6, 6]
    check = check_data(layout, 0)
    assert (check.is_whole, check.unlisted) == (True, ())


def test_fashioniq_prefers_the_endings_of_before(tmp_path: Path) -> None:
    """Of several files of one name: .png, .jpg, .jpeg, then the others in their order."""
    root = write_fashioniq(tmp_path)
    order = [".png", ".jpg", ".jpeg", ".bmp", ".tif", ".webp"]
    for ending in order:
        draw(root / "images" / f"dress-val-2{ending}", 5)
    for ending in order:
        path = root / "images" / f"dress-val-2{ending}"
        assert open_layout("fashioniq", root, "error").image_path("dress-val-2") == path
        path.unlink()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>gone", None])
def test_a_broken_file_does_not_hide_a_good_one_of_its_name(tmp_path: Path, content: bytes | None) -> None:
    """A download that failed leaves an empty file, a web page or a part of an image under the name."""
    root = write_fashioniq(tmp_path)
    broken = root / "images" / "dress-val-0.png"
    good = broken.with_suffix(".jpg")
    draw(good, 7)
    broken.write_bytes(broken.read_bytes()[:-40] if content is None else content)
    layout = open_layout("fashioniq", root, "error")
    assert layout.image_path("dress-val-0") == good
    assert check_data(layout, 0).is_whole
    good.write_bytes(b"")
    assert open_layout("fashioniq", root, "error").image_path("dress-val-0") == broken


@pytest.mark.parametrize("writer", [write_folders, write_tars])
def test_a_pool_says_what_else_it_holds_than_captions(tmp_path: Path, writer, capsys) -> None:  # type: ignore[no-untyped-def]
    images = Cc3m(writer(tmp_path), None, "error").images()
    assert len(images) == 6
    assert "passed over" not in capsys.readouterr().err


def test_a_pool_reads_other_endings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path, parts=(0,))
    first, second, third = (root / "00000" / f"{name}.jpg" for name in names(0))
    first.rename(first.with_suffix(".jfif"))
    Image.open(second).save(second.with_suffix(".tiff"))
    second.unlink()
    third.rename(third.with_suffix(".heic"))
    assert [image.name for image in Cc3m(root, None, "error").images()] == names(0)[:2]
    assert "passed over 1 file that is not an image: 1 .heic" in capsys.readouterr().err


def test_ids_lose_every_ending_of_an_image(tmp_path: Path) -> None:
    assert [image_id(f"/far/{name}") for name in ("7.jfif", "7.TIFF", "7.v2", "7")] == ["7", "7", "7.v2", "7"]
    root = write_part_files(tmp_path, parts=(0,), image="{}.jfif".format)
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(".jfif"))
    assert [image.name for image in Cc3m(root, None, "error").images()] == names(0)


def test_common_formats_stay_the_first_that_pillow_tries() -> None:
    """Registering all formats must not put those before them that look into every file."""
    code = (
        "from PIL import Image; from spn4cir.images.endings import image_endings\nimage_endings(); print(*Image.ID[:6])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"BMP", "GIF", "JPEG", "PNG", "PPM"} <= set(said.split())
