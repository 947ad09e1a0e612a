"""`missing: skip` leaves out what cannot be decoded, in every layout alike and in every stage alike."""

import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spn4cir.datasets import open_benchmark, open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.images import usable
from spn4cir.images.decoding import open_image
from spn4cir.images.usable import image_faults, unusable
from spn4cir.positives.dedup import deduplicate
from spn4cir.types import Gallery, Triplet, UniqueImages
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.layouts import draw, image_cells, write, write_cirr, write_fashioniq, write_folder, write_parquet
from tests.helpers.pools import names, write_part_files, write_tars

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "web page": lambda _: b"\n<!DOCTYPE html><html>gone</html>",
    "truncated": lambda content: content[: len(content) // 2],
    "text": lambda _: b"404: not found",
}
LISTED = "spn4cir check-data lists them all"
CAUSE = f"(images absent: 0, broken: 1; {LISTED})"


def damage(path: Path, how: str) -> Path:
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    return path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("how", DAMAGE)
def test_fashioniq(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Train and val: triplets, galleries, captions and generated triplets leave out the same."""
    root = write_fashioniq(tmp_path, suffix=".jpg")
    for name in ("dress-train-2", "dress-val-3"):
        damage(root / "images" / f"{name}.jpg", how)
    layout = open_layout("fashioniq", root, "skip")
    assert len(layout.training_triplets()) == 16
    assert "dress-train-2" not in layout.training_gallery().names
    assert "dress-train-2" not in {image.name for image in layout.caption_images("split")}
    record = layout.generated_record(Triplet("dress-train-0", ("x",), "dress-train-2"), "a", "b")
    assert layout.read_generated(write(tmp_path / "generated.json", [record])) == ()
    dress, shirt, _ = layout.evaluation_splits()
    assert (len(dress.gallery), dress.missing, len(dress.triplets), dress.left_out) == (5, 1, 4, 2)
    assert (len(shirt.gallery), shirt.missing, len(shirt.triplets), shirt.left_out) == (6, 0, 6, 0)
    said = capsys.readouterr().err
    assert f"cap.dress.train.json: left out 2 of 6 triplets {CAUSE}" in said
    assert f"image_splits: left out 1 of 18 images to caption {CAUSE}" in said
    assert f"split.dress.val.json: left out 1 of 6 images of the gallery {CAUSE}" in said
    assert f"cap.dress.val.json: left out 2 of 6 triplets {CAUSE}" in said
    deduplicate(layout.training_gallery(), 0)


@pytest.mark.parametrize("how", DAMAGE)
def test_under_error_the_first_is_named_with_the_command_that_lists_all(tmp_path: Path, how: str) -> None:
    root = write_fashioniq(tmp_path, suffix=".jpg")
    broken = damage(root / "images" / "dress-train-2.jpg", how)
    gallery = open_layout("fashioniq", root, "error").training_gallery()
    said = refused(lambda: deduplicate(gallery, 0))
    assert said.startswith(f"{broken}: cannot be decoded (")
    assert "spn4cir check-data lists all such files" in said


def test_under_error_nothing_is_decoded_at_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stays as cheap as it was: a broken image is met where it is decoded anyway."""
    root = write_fashioniq(tmp_path)
    damage(root / "images" / "dress-train-2.png", "truncated")
    damage(root / "images" / "dress-val-2.png", "empty")
    monkeypatch.setattr("spn4cir.datasets.records.unusable", lambda _: pytest.fail("decoded"))
    layout = open_layout("fashioniq", root, "error")
    assert len(layout.training_triplets()) == 18
    assert [len(split.gallery) for split in layout.evaluation_splits()] == [6, 6, 6]


def test_absent_and_broken_are_counted_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_cirr(tmp_path)
    damage(root / "train" / "0" / "train-0-0-img1.png", "text")
    (root / "train" / "1" / "train-1-0-img4.png").unlink()
    assert len(open_layout("cirr", root, "skip").training_triplets()) == 8
    counts = f"(images absent: 1, broken: 1; {LISTED})"
    assert f"cap.rc2.train.json: left out 4 of 12 triplets {counts}" in capsys.readouterr().err


@pytest.mark.parametrize("how", DAMAGE)
def test_cirr(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken member of a group costs the queries that name it, and leaves the others' subsets smaller."""
    root = write_cirr(tmp_path)
    damage(root / "train" / "0" / "train-0-0-img1.png", how)
    damage(root / "dev" / "dev-0-0-img2.png", how)
    damage(root / "test1" / "test1-0-0-img5.png", how)
    layout = open_layout("cirr", root, "skip")
    assert len(layout.training_triplets()) == 10
    (val,) = layout.evaluation_splits()
    assert (len(val.gallery), val.missing, len(val.triplets), val.left_out) == (11, 1, 10, 2)
    test = layout.test_split()  # type: ignore[attr-defined]
    assert (len(test.gallery), test.missing, test.left_out) == (53, 1, 1)
    said = capsys.readouterr().err
    assert f"cap.rc2.val.json: left out 2 of 12 triplets {CAUSE}" in said
    assert f"cap.rc2.test1.json: left out 1 of 54 triplets {CAUSE}" in said


@pytest.mark.parametrize("how", DAMAGE)
def test_circo(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Query 0 begins at image 7 and is answered by 14; 21 answers query 1 and begins query 2."""
    root = write_circo(tmp_path)
    damage(root / "COCO2017_unlabeled" / "unlabeled2017" / f"{14:012d}.jpg", how)
    (val,) = open_benchmark("circo", root, "skip").evaluation_splits()
    assert (len(val.gallery), val.missing) == (59, 1)
    assert [triplet.query_id for triplet in val.triplets] == [2, 3, 4, 5]
    assert f"val.json: left out 2 of 6 triplets {CAUSE}" in capsys.readouterr().err


@pytest.mark.parametrize("how", DAMAGE)
def test_genecis(tmp_path: Path, how: str) -> None:
    """Whole images and crops are checked; each distractor is needed."""
    root = write_genecis(tmp_path)
    damage(root / "val2017" / f"{4:012d}.jpg", how)
    damage(root / "VG_100K_all" / "13.jpg", how)
    splits = {split.name: split for split in open_benchmark("genecis", root, "skip").evaluation_splits()}
    assert {name: [t.query_id for t in split.triplets] for name, split in splits.items()} == {
        "focus_attribute": [0, 2],
        "change_attribute": [0, 2],
        "focus_object": [1, 2],
        "change_object": [1, 2],
    }
    assert {split.missing for split in splits.values()} == {1}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_folder(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An image that no row names leaves the gallery too, where it would be encoded."""
    root = write_folder(tmp_path)
    damage(root / "mugs" / "3.png", how)
    damage(root / "pots" / "15.png", how)
    damage(draw(root / "other.png", 1), how)
    layout = open_layout("folder", root, "skip", {"annotations": "triplets.csv"})
    assert len(layout.training_triplets()) == 28
    (val,) = layout.evaluation_splits()
    assert (len(val.gallery), len(val.triplets), val.left_out, val.missing) == (38, 8, 2, 1)
    assert f"{root}: left out 3 of 41 images (images absent: 0, broken: 3; {LISTED})" in capsys.readouterr().err
    for path in val.gallery.paths:
        open_image(path)
    plain = open_layout("folder", root, "skip")
    assert len(plain.training_gallery()) == len(plain.caption_images("split")) == 38


@pytest.mark.parametrize("how", DAMAGE)
def test_a_cell_of_a_table(tmp_path: Path, how: str) -> None:
    """An empty cell contains no image; a cell of other bytes contains none that can be decoded."""
    cells = image_cells(tmp_path, 12)
    cells[5]["bytes"] = DAMAGE[how](cells[5]["bytes"])
    columns = {"reference": cells, "target": cells[1:] + cells[:1], "text": ["is red"] * 12}
    for name, rows in (("train", slice(0, 8)), ("validation", slice(8, 12))):
        write_parquet(tmp_path / f"{name}-0.parquet", {key: values[rows] for key, values in columns.items()})
    layout = open_layout("table", tmp_path, "skip")
    assert [triplet.query_id for triplet in layout.training_triplets()] == [0, 1, 2, 3, 6, 7]
    assert len(deduplicate(layout.training_gallery(), 0).gallery) == 8
    assert len(layout.evaluation_splits()[0].triplets) == 4


@pytest.mark.parametrize("how", DAMAGE)
def test_a_member_of_a_tar(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tars(tmp_path)
    tar, broken = root / "00000.tar", names(0)[1]
    with tarfile.open(tar) as old:
        members = {info.name: old.extractfile(info).read() for info in old}  # type: ignore[union-attr]
    members[f"{broken}.jpg"] = DAMAGE[how](members[f"{broken}.jpg"])
    with tarfile.open(tar, "w") as new:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    images = Cc3m(root, None, "skip").images()
    assert [image.name for image in images] == [names(0)[0], names(0)[2], *names(64)]
    assert f"left out 1 of 6 images to caption {CAUSE}" in capsys.readouterr().err
    said = refused(lambda: [open_image(image.path) for image in Cc3m(root, None, "error").images()])
    assert said.startswith(f"{tar / broken}.jpg: cannot be decoded (")


@pytest.mark.parametrize("how", DAMAGE)
def test_a_file_of_a_pool(tmp_path: Path, how: str) -> None:
    root = write_part_files(tmp_path)
    damage(root / "images" / f"{names(64)[0]}.jpg", how)
    pool = Cc3m(root, None, "skip")
    assert len(pool.images()) == 5
    record = pool.generated_record(Triplet(names(0)[0], ("x",), names(64)[0]))
    assert pool.read_generated(write(tmp_path / "generated.json", [record])) == ()


class Project:
    """A folder with a data set at `data/raw/d`, whose images are decoded when `looked_at` says so."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("dvc.yaml").touch()
        self.folder = Path("data", "raw", "d")
        self.paths = [draw(self.folder / f"{number}.png", number) for number in range(5)]
        self.looked_at: list[str] = []
        look = usable.image_fault
        monkeypatch.setattr(usable, "image_fault", lambda path: self.looked_at.append(path.name) or look(path))

    def faults(self) -> dict[Path, str]:
        """Returns the faults that a new process finds."""
        usable.SEEN.clear()
        usable._known.cache_clear()
        self.looked_at.clear()
        return unusable(self.paths)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_a_usable_image_is_decoded_once_for_all_stages(project: Project) -> None:
    """A broken one is looked at each time, an empty one never."""
    damage(project.paths[1], "truncated")
    damage(project.paths[3], "empty")
    found = project.faults()
    assert list(found) == [project.paths[1], project.paths[3]]
    assert found[project.paths[3]] == "is empty (0 bytes)"
    assert project.looked_at == ["0.png", "1.png", "2.png", "4.png"]
    assert project.faults() == found
    assert project.looked_at == ["1.png"]


def test_an_image_that_changes_is_decoded_again(project: Project) -> None:
    """A change of its size or of its time alone is noticed."""
    assert project.faults() == {}
    damage(project.paths[0], "truncated")
    status = project.paths[2].stat()
    project.paths[2].write_bytes(b"x" * status.st_size)
    os.utime(project.paths[2], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert list(project.faults()) == [project.paths[0], project.paths[2]]
    assert project.looked_at == ["0.png", "2.png"]


def test_a_torn_file_of_verdicts_costs_only_what_it_lost(project: Project) -> None:
    project.faults()
    store = Path("data/work/usable.txt")
    assert re.fullmatch(r"(\n([0-9a-f]{32}\n)+)+", store.read_text())
    store.write_bytes(store.read_bytes()[:-10])
    project.faults()
    assert project.looked_at == ["4.png"]
    project.faults()
    assert project.looked_at == []


def test_a_place_that_cannot_be_written_stops_nothing(project: Project) -> None:
    Path("data/work").write_text("a file in the way")
    assert project.faults() == {}


def test_images_elsewhere_leave_no_file(project: Project, tmp_path: Path) -> None:
    """Of a folder that is named on the command line, the current folder need not know."""
    project.paths = [path.absolute() for path in project.paths]
    assert project.faults() == {}
    assert not (tmp_path / "data" / "work").exists()


@pytest.mark.parametrize("name", ["data/raw/d", "data"])
def test_a_folder_of_the_same_name_that_is_no_project_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image = draw(Path(name, "image.png"), 1)
    assert unusable([image]) == {}
    assert sorted(tmp_path.rglob("*.*")) == [tmp_path / image]


def test_the_check_decodes_what_another_process_found_usable(project: Project) -> None:
    project.faults()
    usable.SEEN.clear()
    project.looked_at.clear()
    assert image_faults(project.paths, 0, "check-data") == {}
    assert len(project.looked_at) == 5


def test_published_unique_images_keep_an_equal_one_in_the_place_of_one_that_is_not_there() -> None:
    """b and d are equal, b is kept but not usable; c has no equal and is left out."""
    unique = UniqueImages(Gallery(("a", "b", "c"), tuple(map(Path, "abc"))), {"a": 0, "b": 1, "c": 2, "d": 1})
    found = unique.restrict(Gallery(("d", "a"), (Path("d"), Path("a"))))
    assert found == UniqueImages(Gallery(("a", "d"), (Path("a"), Path("d"))), {"a": 0, "d": 1})
