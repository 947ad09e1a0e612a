"""CC3M in its three forms: the same images whatever the form, and one line for a folder that is not as expected."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from spn4cir.datasets.base import unique_gallery
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.images.decoding import pixel_digest
from spn4cir.images.preprocess import Preprocess, image_batches
from spn4cir.positives.partners import random_pairs
from spn4cir.types import Triplet
from tests.helpers.layouts import draw, write
from tests.helpers.pools import PARTS, WRITERS, names, write_folders, write_part_files, write_tar, write_tars

EVERY = [name for part in PARTS for name in names(part)]


def open_pool(root: Path, parts: tuple[int, ...] | None = None, missing: str = "error") -> Cc3m:
    return Cc3m(root, parts, missing)


@pytest.fixture(params=WRITERS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A pool of six images in two parts, in each form."""
    return WRITERS[request.param](tmp_path / "pool")


def test_every_form_gives_the_same_names_and_pixels(root: Path, tmp_path: Path) -> None:
    images = open_pool(root).images()
    assert [image.name for image in images] == EVERY
    assert {image.noun for image in images} == {"image"}
    expected = [pixel_digest(draw(tmp_path / "again" / f"{name}.jpg", int(name))) for name in EVERY]
    assert [pixel_digest(image.path) for image in images] == expected


def test_loaders_give_equal_batches_for_every_form(root: Path, tmp_path: Path) -> None:
    paths = [image.path for image in open_pool(root).images()]
    drawn = [draw(tmp_path / "again" / f"{name}.jpg", int(name)) for name in EVERY]
    expected = torch.cat(list(image_batches(drawn, Preprocess(16), 4, 0)))
    assert torch.equal(torch.cat(list(image_batches(paths, Preprocess(16), 4, 2))), expected)


def test_the_folder_may_be_a_link_and_is_not_written_to(root: Path, tmp_path: Path) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*"))
    (tmp_path / "link").symlink_to(root)
    assert [image.name for image in open_pool(tmp_path / "link").images()] == EVERY
    assert sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*")) == before


def test_chosen_parts_are_read_in_the_order_asked(root: Path) -> None:
    pool = open_pool(root, (64,))
    assert [image.name for image in pool.images()] == names(64)
    assert {pool.part_of(name) for name in names(64)} == {64}
    assert [image.name for image in open_pool(root, (64, 0, 64)).images()] == names(64) + names(0)
    assert [open_pool(root).part_of(name) for name in EVERY] == [0] * 3 + [64] * 3


def test_a_part_that_is_not_there_is_refused_with_those_that_are(root: Path) -> None:
    with pytest.raises(InputError, match=r"pool: has no part 7, 9; it has 0, 64: choose from these, or add"):
        open_pool(root, (64, 7, 9)).images()


def test_names_resolve_with_and_without_suffix_and_folder(root: Path) -> None:
    pool = open_pool(root)
    paths = {
        pool.image_path(f"{before}{EVERY[4]}{after}") for before in ("", "/far/", "D:\\x\\") for after in ("", ".jpg")
    }
    assert paths == {pool.images()[4].path}
    assert pool.image_path("unknown.jpg") == root / "unknown.jpg"


@pytest.mark.parametrize("folder", ["images", "images/a/b", ".", "00000", "photos"])
@pytest.mark.parametrize("image", ["/far/away/{}.jpg", "{}.jpg", "{}", "C:\\far\\{}.jpg", "images/{}.jpeg"])
def test_part_files_name_images_by_any_path(tmp_path: Path, folder: str, image: str) -> None:
    """Found in the image folder or beside the part files, in sub-folders too."""
    write_part_files(tmp_path, folder=folder, image=image.format)
    images = open_pool(tmp_path).images()
    assert [(image.name, image.path) for image in images] == [(n, tmp_path / folder / f"{n}.jpg") for n in EVERY]


def test_images_without_suffix_are_found(tmp_path: Path) -> None:
    write_part_files(tmp_path, parts=(0,), image="/far/{}".format)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(""))
    assert [image.path.name for image in open_pool(tmp_path).images()] == names(0)


def test_absent_images_of_a_part_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_part_files(tmp_path)
    (tmp_path / "images" / f"{EVERY[1]}.jpg").unlink()
    with pytest.raises(InputError, match=rf"1 of 6 images are not on disk, .*images/{EVERY[1]}\.jpg; add them, "):
        open_pool(tmp_path).images()
    kept = open_pool(tmp_path, missing="skip").images()
    assert [image.name for image in kept] == [EVERY[0], *EVERY[2:]]
    assert "left out 1 of 6 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"is not valid JSON \(.*download the file again"),
        ('{"image": "a.jpg", "capt', r"is not valid JSON \("),
        ("[" * 100_000, r"is not valid JSON \("),
        ('{"url": "u"}', r"names no image \(got .*expected \{url, image, caption\}"),
        ('{"image": 5}', r"names no image"),
        ('{"image": ""}', r"names no image"),
        ('"a.jpg"', r"names no image"),
    ],
)
def test_a_broken_line_is_named_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    write_part_files(tmp_path)
    path = tmp_path / "part_64.data"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(InputError, match=rf"part_64\.data: line 3 {message}"):
        open_pool(tmp_path).images()
    assert len(open_pool(tmp_path, (0,)).images()) == 3
    capsys.readouterr()
    assert [image.name for image in open_pool(tmp_path, missing="skip").images()] == EVERY
    assert capsys.readouterr().err == f"{path}: left out 1 lines that name no image: 3\n"


def test_empty_lines_of_a_part_file_are_passed_over(tmp_path: Path) -> None:
    write_part_files(tmp_path)
    path = tmp_path / "part_0.data"
    path.write_text(path.read_text().replace("\n", "\r\n\n"))
    assert [image.name for image in open_pool(tmp_path).images()] == EVERY


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    write_part_files(tmp_path)
    (tmp_path / "part_0.data").write_bytes(b'{"image": "a.jpg"}\n\xff\xfe\n')
    with pytest.raises(InputError, match=r"part_0\.data: line 2 is not valid JSON"):
        open_pool(tmp_path).images()


def test_an_id_in_two_part_files_is_refused_with_both_places(tmp_path: Path) -> None:
    write_part_files(tmp_path)
    with (tmp_path / "part_64.data").open("a") as stream:
        stream.write(json.dumps({"image": f"other/{EVERY[1]}.jpg"}) + "\n")
    with pytest.raises(InputError, match=r"at part_0\.data: line 2 and at part_64\.data: line 4; remove or rename one"):
        open_pool(tmp_path).images()
    assert len(open_pool(tmp_path, (0,)).images()) == 3


def test_an_id_of_two_files_is_refused_with_both(tmp_path: Path) -> None:
    write_part_files(tmp_path)
    draw(tmp_path / "images" / "more" / f"{EVERY[1]}.png", 1)
    with pytest.raises(InputError, match=rf"{EVERY[1]}\.jpg and .*more/{EVERY[1]}\.png are two images of one id"):
        open_pool(tmp_path).images()


@pytest.mark.parametrize("form", ["folders", "tars"])
def test_an_id_in_two_shards_is_refused_with_both_places(tmp_path: Path, form: str) -> None:
    WRITERS[form](tmp_path)
    image = draw(tmp_path / "drawn" / f"{EVERY[0]}.jpg", 5)
    if form == "tars":
        write_tar(tmp_path / "00007.tar", [image])
    else:
        draw(tmp_path / "00007" / image.name, 5)
    shard = r"00000.tar|00000" if form == "tars" else "00000"
    with pytest.raises(
        InputError, match=rf"'{EVERY[0]}' is used twice, at .*(?:{shard})/{EVERY[0]}\.jpg and at .*00007"
    ):
        open_pool(tmp_path).images()


def test_a_tar_that_is_cut_short_is_named(tmp_path: Path) -> None:
    write_tars(tmp_path)
    os.truncate(tmp_path / "00064.tar", 2000)
    with pytest.raises(
        InputError, match=r"00064\.tar: is cut short or damaged after \d whole files; download this tar"
    ):
        open_pool(tmp_path, missing="skip").images()
    assert len(open_pool(tmp_path, (0,)).images()) == 3


@pytest.mark.parametrize("name", ["00000.tar.gz", "00000.tgz", "cc3m.tar.zst"])
def test_compressed_tars_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name}: is compressed, .*; decompress it first"):
        open_pool(tmp_path).images()


@pytest.mark.parametrize(
    ("writers", "named"),
    [
        ((write_part_files, write_folders), r"2 forms \(part_0\.data and 00000\)"),
        ((write_part_files, write_tars), r"2 forms \(part_0\.data and 00000\.tar\)"),
        ((write_folders, write_tars), r"2 forms \(00000 and 00000\.tar\)"),
        ((write_part_files, write_folders, write_tars), r"3 forms \(part_0\.data and 00000 and 00000\.tar\)"),
    ],
)
def test_mixed_forms_are_refused(tmp_path: Path, writers: tuple, named: str) -> None:
    for writer in writers:
        writer(tmp_path)
    with pytest.raises(InputError, match=rf"contains CC3M in {named}; keep one, move the other elsewhere"):
        open_pool(tmp_path).images()


def test_a_folder_of_none_of_the_forms_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "a.jpg", 1)
    with pytest.raises(InputError, match=r"contains neither part_\{n\}\.data files .* nor numbered folders .*\.tar"):
        open_pool(tmp_path).images()
    with pytest.raises(InputError, match=r"absent: no such folder; link the folder of CC3M there"):
        open_pool(tmp_path / "absent").images()


def test_two_tars_of_one_number_are_refused(tmp_path: Path) -> None:
    """The published splits of training and validation in one folder are such a case."""
    for split in ("train", "validation"):
        write_tar(tmp_path / f"cc3m-{split}-0003.tar", [draw(tmp_path / "drawn" / f"{split}.jpg", 1)])
    with pytest.raises(
        InputError, match=r"cc3m-train-0003\.tar and cc3m-validation-0003\.tar both have number 3; move"
    ):
        open_pool(tmp_path).images()


def test_file_names_are_as_published(tmp_path: Path) -> None:
    pool = open_pool(tmp_path)
    assert pool.captions_name(64, 10) == "cc_it_64_llava_10.json"
    assert pool.published_captions(64, 10) == tmp_path / "mm_data" / "zs" / "cc_it_64_llava_10.json"
    assert pool.generated_name("fiq") == "cap.cc.train.json"
    assert pool.generated_name("cirr") == "cap.rc2.train.cc.json"
    with pytest.raises(InputError, match=r"'other'; choose one of: fiq, cirr"):
        pool.generated_name("other")


def test_generated_triplets_are_read_back(root: Path, tmp_path: Path) -> None:
    pool = open_pool(root)
    triplets = tuple(
        Triplet(reference, ("a dog instead of a cat", "a dog"), target, query_id=number, generated=True)
        for number, (reference, target) in enumerate(random_pairs(EVERY, seed=0))
    )
    records = [pool.generated_record(triplet) for triplet in triplets]
    assert list(records[0]) == ["reference", "target", "reference_name", "target_name", "captions"]
    assert records[0]["reference"] == str(pool.image_path(EVERY[0]))
    path = write(tmp_path / "cap.cc.train.json", records)
    assert pool.read_generated(path) == triplets
    gallery = unique_gallery(pool.read_generated(path), pool.image_path)
    assert dict(zip(gallery.names, gallery.paths, strict=True)) == {i.name: i.path for i in pool.images()}


def test_published_triplets_resolve_by_name(root: Path, tmp_path: Path) -> None:
    """Ids with a suffix, and ids that are none of the pool's beside paths of another machine."""
    pool = open_pool(root)
    record = {
        "reference": f"/root_path/cc3m/{EVERY[2]}.jpg",
        "target": f"/root_path/cc3m/{EVERY[3]}.jpg",
        "reference_name": f"{EVERY[2]}.jpg",
        "target_name": "part0-3",
        "captions": ["a dog"],
    }
    path = write(tmp_path / "cap.cc.train.json", [record])
    assert pool.read_generated(path) == (Triplet(EVERY[2], ("a dog",), EVERY[3], generated=True),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_name": None}, r"triplet 1: field 'target_name' is None"),
        ({"reference": ""}, r"triplet 1: field 'reference' is ''"),
        ({"captions": []}, r"triplet 1: field 'captions' is \[\]"),
        ({"target_name": "gone", "target": "/far/gone.jpg"}, r"target 'gone' has no image on disk"),
    ],
)
def test_malformed_generated_triplets_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    pool = open_pool(write_part_files(tmp_path))
    record = pool.generated_record(Triplet(EVERY[0], ("a dog",), EVERY[1]))
    path = write(tmp_path / "cap.cc.train.json", [record, record | change])
    with pytest.raises(InputError, match=rf"cap\.cc\.train\.json: {message}"):
        pool.read_generated(path)


def test_triplets_of_absent_images_are_left_out_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = open_pool(write_part_files(tmp_path), missing="skip")
    pairs = [(EVERY[0], EVERY[1]), (EVERY[1], EVERY[2])]
    path = write(tmp_path / "t.json", [pool.generated_record(Triplet(a, ("a dog",), b)) for a, b in pairs])
    (tmp_path / "images" / f"{EVERY[0]}.jpg").unlink()
    assert [triplet.reference_name for triplet in pool.read_generated(path)] == [EVERY[1]]
    assert "t.json: left out 1 of 2 triplets" in capsys.readouterr().err


def test_every_other_image_is_a_partner_equally_often() -> None:
    """Of four images each, over 3,000 draws: 1,000 expected for each of the three others, 26 standard deviation."""
    drawn = Counter(pair for seed in range(3000) for pair in random_pairs("abcd", seed))
    assert sorted(drawn) == [(a, b) for a in "abcd" for b in "abcd" if a != b]
    assert all(abs(count - 1000) < 5 * 26 for count in drawn.values())


def test_pairs_follow_the_seed_and_keep_the_order() -> None:
    pairs = random_pairs(EVERY, 1)
    assert [reference for reference, _ in pairs] == EVERY
    assert pairs == random_pairs(EVERY, 1) != random_pairs(EVERY, 2)
    assert random_pairs(["a", "b"], 0) == [("a", "b"), ("b", "a")]


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_has_no_partner(count: int) -> None:
    with pytest.raises(InputError, match=rf"pairs: {count} images, but a pair needs two; choose more parts"):
        random_pairs(EVERY[:count], 0)
