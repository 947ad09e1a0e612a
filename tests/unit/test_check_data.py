"""check-data: missing, broken and unlisted images, the losses, and the printed report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.datasets import LAYOUTS, open_benchmark, open_layout
from spn4cir.errors import InputError
from spn4cir.images import decoding, usable
from spn4cir.projects.check import Check, check_data
from spn4cir.projects.check_lines import check_lines, summary
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.layouts import change, draw, write_cirr, write_fashioniq

WRITERS = {"cirr": write_cirr, "fashioniq": write_fashioniq, "circo": write_circo}


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """Faults of every kind, in one category or another."""
    root = write_fashioniq(tmp_path / "fashion")
    images = root / "images"
    (images / "dress-train-0.png").unlink()
    (images / "dress-val-1.png").rename(images / "DRESS-val-1.PNG")
    whole = (images / "shirt-val-2.png").read_bytes()
    (images / "shirt-val-2.png").write_bytes(whole[: len(whole) // 2])
    (images / "shirt-val-3.png").write_text("\n <!DOCTYPE html><html>gone</html>")
    (images / "toptee-train-3.png").write_bytes(b"")
    draw(images / "other.jpg", 900)
    return root


def check(layout: str, root: Path, workers: int = 0) -> Check:
    return check_data(open_layout(layout, root, "error"), workers)


def reasons(faults: tuple) -> dict[str, str]:
    return {fault.name: fault.reason for fault in faults}


def test_a_whole_data_set_is_ok(tmp_path: Path) -> None:
    for layout, write in (("fashioniq", write_fashioniq), ("cirr", write_cirr)):
        found = check(layout, write(tmp_path / layout))
        assert found.is_whole
        assert found.unlisted == ()
        assert summary(found).startswith(f"ok: all {found.checked} images are there and can be decoded")


def test_what_is_missing_broken_and_unlisted_is_named(fashion: Path) -> None:
    found = check("fashioniq", fashion)
    assert reasons(found.missing) == {
        "dress-train-0": "is not there",
        "dress-val-1": "is not there, but images/DRESS-val-1.PNG is: rename it",
    }
    assert reasons(found.broken) == {
        "shirt-val-2": "cannot be decoded (image file is truncated)",
        "shirt-val-3": "is a web page, not an image",
        "toptee-train-3": "is empty (0 bytes)",
    }
    assert found.unlisted == ("images/DRESS-val-1.PNG", "images/other.jpg")
    assert found.checked == 54


def test_the_cost_is_reported_by_category(fashion: Path) -> None:
    """An image is the reference of one triplet and the target of another; a gallery image is one less to be found."""
    costs = {(cost.split, cost.category): cost for cost in check("fashioniq", fashion).costs}
    lost = {key: (cost.triplets_lost, cost.missing, cost.broken) for key, cost in costs.items() if cost.triplets_lost}
    assert lost == {
        ("train", "dress"): (2, 1, 0),
        ("train", "toptee"): (2, 0, 1),
        ("val", "dress"): (2, 1, 0),
        ("val", "shirt"): (3, 0, 2),
    }
    assert all((cost.triplets, cost.images) == (6, 6) for cost in costs.values())


def test_processes_find_the_same(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usable, "_FEW", 0)
    assert check("fashioniq", fashion, workers=2) == check("fashioniq", fashion)


def test_an_image_that_is_truncated_by_a_byte_is_broken(tmp_path: Path) -> None:
    """Its header is whole: decoding to the end finds it."""
    root = write_fashioniq(tmp_path, suffix=".jpg")
    path = root / "images" / "shirt-val-0.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    (fault,) = check("fashioniq", root).broken
    assert fault.reason.startswith("cannot be decoded (image file is truncated")
    assert fault.splits == ("val shirt",)


def test_a_file_that_cannot_be_read_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without permission, or on a bad disk, is listed like the others; the check continues."""
    root = write_fashioniq(tmp_path)
    (root / "images" / "toptee-val-5.png").write_bytes(b"x")

    def read(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(decoding, "read_bytes", read)
    found = check("fashioniq", root)
    assert reasons(found.broken) == {"toptee-val-5": "cannot be decoded (no known image format)"}


def test_a_name_that_no_split_file_has_is_missing_there(tmp_path: Path) -> None:
    root = write_cirr(tmp_path)
    change(root / "cirr/image_splits/split.rc2.val.json", lambda places: places.pop("dev-0-0-img0") and None)
    found = check("cirr", root)
    assert reasons(found.missing) == {"dev-0-0-img0": "is absent from the split file"}
    assert [cost.triplets_lost for cost in found.costs if cost.split == "val"] == [2]
    assert found.unlisted == ("dev/dev-0-0-img0.png",)


def test_official_totals_stand_beside_what_is_there(tmp_path: Path) -> None:
    fashion = check("fashioniq", write_fashioniq(tmp_path / "fashion"))
    assert fashion.totals["train triplets"] == (18, 18_000)
    assert fashion.totals["train images in triplets"] == (18, 25_136)
    assert fashion.totals["val toptee images"] == (6, 5_373)
    cirr = check("cirr", write_cirr(tmp_path / "cirr"))
    assert cirr.totals["test1 images"] == (54, 2_315)
    assert cirr.is_whole, "they are information alone"
    assert len(fashion.totals) == 7


def test_official_totals_are_listed_only_of_data_that_has_one(tmp_path: Path) -> None:
    """Drawn data in a published layout differs in all of them, a mirror in some."""
    drawn = check("fashioniq", write_fashioniq(tmp_path))
    (line,) = [line for line in check_lines(drawn, whole=False) if "official" in line]
    assert line == (
        "official totals: none of 7 agrees (train triplets: 18,000, here 18); this is another data set or a part of it"
    )
    assert len(drawn.as_dict()["official"]) == 7
    mirror = replace(drawn, totals=drawn.totals | {"val triplets": (6_016, 6_016), "train images": (46_000, 46_609)})
    lines = check_lines(mirror, whole=False)
    start = lines.index("official totals, for information:")
    listed = [" ".join(line.split()) for line in lines[start + 1 : start + 8]]
    assert "val triplets 6,016 here 6,016" in listed
    assert "train images 46,609 here 46,000 (differs)" in listed
    assert [line for line in check_lines(replace(drawn, totals={}), whole=False) if "official" in line] == []


def test_a_test_split_without_files_is_passed_over(tmp_path: Path) -> None:
    root = write_cirr(tmp_path)
    (root / "cirr/captions/cap.rc2.test1.json").unlink()
    assert [cost.split for cost in check("cirr", root).costs] == ["train", "val"]


@pytest.mark.parametrize(
    ("layout", "kept", "absent"),
    [
        ("cirr", ("val",), ("train", "test1")),
        ("cirr", ("test1",), ("train", "val")),
        ("cirr", ("val", "test1"), ("train",)),
        ("fashioniq", ("val",), ("train",)),
        ("circo", ("test",), ("val",)),
    ],
)
def test_the_splits_that_are_there_are_checked(
    tmp_path: Path, layout: str, kept: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    """Scoring and submitting need no training split."""
    root = WRITERS[layout](tmp_path)
    for path in annotation_files(root):
        if path.stem.split(".")[-1] not in kept:
            path.unlink()
    found = check_data(open_benchmark(layout, root, "error"), 0)
    assert {cost.split for cost in found.costs} == set(kept)
    assert found.absent_splits == absent
    assert found.as_dict()["absent_splits"] == list(absent)
    assert found.is_whole
    use = "; enough to validate or submit, not to train" if "train" in absent else ""
    line = f"not checked: {', '.join(absent)} (no annotation files){use}"
    assert line in check_lines(found, whole=False)
    outcome = CliRunner().invoke(app, ["check-data", "--layout", layout, "--root", str(root), "--workers", "0"])
    assert outcome.exit_code == 0
    assert line in outcome.stdout


@pytest.mark.parametrize("layout", ["cirr", "fashioniq", "circo"])
def test_a_folder_without_annotations_is_refused(tmp_path: Path, layout: str) -> None:
    root = WRITERS[layout](tmp_path)
    for path in annotation_files(root):
        path.unlink()
    with pytest.raises(InputError, match=r"\.json: no such file.*; check the path, or the root folder and the layout"):
        check_data(open_benchmark(layout, root, "error"), 0)


def annotation_files(root: Path) -> list[Path]:
    """Returns the files that contain triplets, without the lists of images."""
    return [*root.rglob("cap.*.json"), *(root / "annotations").glob("*.json")]


def test_a_folder_of_images_is_needed_whole(tmp_path: Path) -> None:
    """All images are in the gallery; with a table, images that it does not name are also unlisted."""
    for number in range(4):
        draw(tmp_path / "shop" / f"{number}.png", number)
    (tmp_path / "shop" / "3.png").write_bytes(b"")
    found = check("folder", tmp_path / "shop")
    assert (reasons(found.broken), found.unlisted) == ({"3.png": "is empty (0 bytes)"}, ())
    (tmp_path / "a.csv").write_text("reference,target,text,split\n0.png,1.png,red,val\n1.PNG,0.png,blue,train\n")
    layout = open_layout("folder", tmp_path / "shop", "error", {"annotations": str(tmp_path / "a.csv")})
    found = check_data(layout, 0)
    assert found.unlisted == ("2.png", "3.png")
    assert reasons(found.missing) == {"1.PNG": "is not there"}
    assert [(cost.split, cost.triplets_lost) for cost in found.costs] == [("train", 1), ("val", 0)]


@pytest.mark.parametrize("name", ["./1.png", "../other.png", "2.ico", ".hidden/3.png"])
def test_a_file_that_is_not_an_image_of_the_folder_is_missing(tmp_path: Path, name: str) -> None:
    """Training looks names up in the folder's images: a file on disk alone is not enough."""
    shop = tmp_path / "shop"
    for place in (shop / "0.png", shop / "1.png", shop / name):
        draw(place, 0)
    (tmp_path / "a.csv").write_text(f"reference,target,text,split\n0.png,{name},red,train\n0.png,1.png,blue,val\n")
    layout = open_layout("folder", shop, "error", {"annotations": str(tmp_path / "a.csv")})
    with pytest.raises(InputError, match="has no image on disk"):
        layout.training_triplets()
    found = check_data(layout, 0)
    assert list(reasons(found.missing)) == [name]
    assert reasons(found.missing)[name].startswith("is not an image of the folder: write its path from there")
    assert [cost.triplets_lost for cost in found.costs] == [1, 0]


def test_long_lists_are_cut_on_screen_and_whole_in_json(tmp_path: Path) -> None:
    root = write_fashioniq(tmp_path, images=30)
    for path in (root / "images").glob("dress-train-*"):
        path.unlink()
    found = check("fashioniq", root)
    lines = check_lines(found, whole=False)
    assert "missing: 30" in lines
    assert "  ... and 10 more: --all shows them, --json FILE writes them" in lines
    assert len([line for line in check_lines(found, whole=True) if line.startswith("  dress-train-")]) == 30
    assert len(found.as_dict()["missing"]) == 30


def test_the_command_writes_json_and_ends_with_one_where_something_is_amiss(fashion: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        app,
        [
            "check-data",
            "--layout",
            "fashioniq",
            "--root",
            str(fashion),
            "--workers",
            "0",
            "--json",
            f"{tmp_path}/a.json",
        ],
    )
    assert run.exit_code == 1
    assert "2 missing, 3 broken of 54 images; 2 unlisted; lost: train dress 2 of 6 training triplets and" in run.output
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["ok"] is False
    assert content["splits"][3] | {"split": "val", "category": "dress", "triplets_lost": 2} == content["splits"][3]
    assert content["broken"][0]["splits"] == ["val shirt"]


def test_a_name_with_a_line_break_or_an_escape_sequence_is_one_line(tmp_path: Path) -> None:
    root = write_cirr(tmp_path)
    for name in ("a\nb.png", "red\x1b[31m.png"):
        draw(root / "dev" / "draw.png", 77).rename(root / "dev" / name)
    lines = check_lines(check("cirr", root), True)
    assert all(line.isprintable() for line in lines)
    assert {r"  dev/a\nb.png", r"  dev/red\x1b[31m.png"} <= set(lines)


def test_the_command_ends_with_zero_where_all_is_well(tmp_path: Path) -> None:
    draw(write_cirr(tmp_path) / "dev" / "other.png", 77)
    run = CliRunner().invoke(app, ["check-data", "--layout", "cirr", "--root", str(tmp_path), "--workers", "0"])
    assert run.exit_code == 0
    assert "unlisted (not named by the annotation files that were read): 1\n  dev/other.png\n" in run.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data set is named: give --layout and --root, or the NAME"),
        (["fiq", "--layout", "cirr"], "give NAME, or --layout and --root; not both"),
        (["nobody"], "datasets.nobody is not set"),
        (["fiq"], "data/raw/fiq: no such folder; run check-data in the project that has it, or link it with"),
        (["--layout", "coco", "--root", "."], f"choose one of: {', '.join(LAYOUTS)}"),
        (["--layout", "fashioniq", "--root", "."], "cap.dress.train.json: no such file"),
    ],
)
def test_a_wrong_call_is_reported(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["check-data", *arguments])
    assert run.exit_code == 1
    assert message in run.output


def test_a_name_outside_the_folder_has_a_hint_as_well(tmp_path: Path) -> None:
    """An annotation contains the path of another machine."""
    for name in ("0", "1", "2"):
        draw(tmp_path / f"{name}.png", int(name))
    (tmp_path / "a.csv").write_text("reference,target,text,split\n0.png,/far/2.png,red,train\n0.png,1.png,blue,val\n")
    layout = open_layout("folder", tmp_path, "error", {"annotations": "a.csv"})
    (fault,) = check_data(layout, 0).missing
    assert fault.reason.startswith("is not there, but 2.png is: move or link it to the folder ")


def test_folders_that_other_data_share_give_hints_and_nothing_unlisted(tmp_path: Path) -> None:
    """GeneCIS names few of COCO's and Visual Genome's images."""
    root = write_genecis(tmp_path)
    coco, genome = root / "val2017", root / "VG_100K_all"
    (coco / f"{1:012d}.jpg").rename(coco / f"{1:012d}.JPG")
    (genome / "images").mkdir()
    (genome / "2.jpg").rename(genome / "images" / "2.jpg")
    (coco / f"{3:012d}.jpg").unlink()
    draw(coco / "other.jpg", 900)
    found = check_data(open_benchmark("genecis", root, "error"), 0)
    assert {Path(fault.path).name: fault.reason for fault in found.missing} == {
        f"{1:012d}.jpg": f"is not there, but val2017/{1:012d}.JPG is: rename it",
        "2.jpg": "is not there, but VG_100K_all/images/2.jpg is: move or link it to the folder VG_100K_all",
        f"{3:012d}.jpg": "is not there",
    }
    assert found.unlisted == ()
