"""Both layouts on tiny roots: what is read, in which order, and what a missing image does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spn4cir.datasets import open_benchmark, open_layout, submittable
from spn4cir.errors import InputError
from spn4cir.types import EvaluationSplit, Triplet
from tests.helpers.layouts import change, draw, write, write_cirr, write_fashioniq


def fashioniq(root: Path, missing: Any = "error") -> Any:
    return open_layout("fashioniq", root, missing)


def cirr(root: Path, missing: Any = "error") -> Any:
    return open_layout("cirr", root, missing)


@pytest.fixture
def fiq_root(tmp_path: Path) -> Path:
    return write_fashioniq(tmp_path / "fiq", images=3)


@pytest.fixture
def cirr_root(tmp_path: Path) -> Path:
    return write_cirr(tmp_path / "cirr", test_groups=2)


def test_unknown_layouts_and_absent_roots_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout 'fiq' is not known; choose one of: fashioniq, cirr"):
        open_layout("fiq", tmp_path, "error")
    with pytest.raises(InputError, match="none: no such folder"):
        fashioniq(tmp_path / "none")


def test_fashioniq_triplets_in_file_order(fiq_root: Path) -> None:
    """Dress, shirt, toptee; the candidate is the reference."""
    triplets = fashioniq(fiq_root).training_triplets()
    assert [t.category for t in triplets] == ["dress"] * 3 + ["shirt"] * 3 + ["toptee"] * 3
    assert triplets[1] == Triplet(
        reference_name="dress-train-1",
        captions=("has blue stripes", "is longer"),
        target_name="dress-train-2",
        query_id=1,
        category="dress",
    )


def test_the_training_gallery_names_reference_before_target(fiq_root: Path) -> None:
    """In the order of the triplets, each name once: the order decides which of two equal images dedup keeps."""
    records = [
        {"target": "dress-train-1", "candidate": "dress-train-2", "captions": ["a", "b"]},
        {"target": "dress-train-0", "candidate": "dress-train-1", "captions": ["a", "b"]},
    ]
    write(fiq_root / "captions" / "cap.dress.train.json", records)
    write(fiq_root / "captions" / "cap.shirt.train.json", [])
    gallery = fashioniq(fiq_root).training_gallery()
    assert gallery.names[:4] == ("dress-train-2", "dress-train-1", "dress-train-0", "toptee-train-0")
    assert gallery.paths[0] == fiq_root / "images" / "dress-train-2.png"


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg"])
def test_fashioniq_images_of_any_suffix(tmp_path: Path, suffix: str) -> None:
    root = write_fashioniq(tmp_path, images=2)
    for path in sorted((root / "images").iterdir()):
        path.rename(path.with_suffix(suffix))
    layout = fashioniq(root)
    assert layout.image_path("shirt-val-1") == root / "images" / f"shirt-val-1{suffix}"
    assert len(layout.training_triplets()) == 6
    assert layout.image_path("absent") == root / "images" / "absent.png"


def test_of_two_files_of_one_name_the_png_counts(fiq_root: Path) -> None:
    """The order of the folder does not matter; a broken link is not an image."""
    images = fiq_root / "images"
    png = images / "dress-train-0.png"
    for suffix in (".jpg", ".jpeg", ".PNG"):
        draw(images / f"dress-train-0{suffix}", 1)
    (images / "dress-train-1.png").rename(images / "dress-train-1.jpg")
    (images / "dress-train-1.png").symlink_to("nowhere")
    (images / "dress-train-2.png").unlink()
    (images / "dress-train-2.png").symlink_to("nowhere")
    layout = fashioniq(fiq_root, "skip")
    assert layout.image_path("dress-train-0") == png
    assert layout.image_path("dress-train-1") == images / "dress-train-1.jpg"
    dresses = [triplet for triplet in layout.training_triplets() if triplet.category == "dress"]
    assert [triplet.reference_name for triplet in dresses] == ["dress-train-0"]


def test_names_with_dots_keep_them(fiq_root: Path) -> None:
    path = draw(fiq_root / "images" / "B00.1.png", 1)
    assert fashioniq(fiq_root).image_path("B00.1") == path


def test_fashioniq_evaluation(fiq_root: Path) -> None:
    """A split a category, its gallery the split file in order, the alternative what its triplets name."""
    change(fiq_root / "captions" / "cap.shirt.val.json", lambda records: records[:1])
    dress, shirt, toptee = fashioniq(fiq_root).evaluation_splits()
    assert [split.name for split in (dress, shirt, toptee)] == ["dress", "shirt", "toptee"]
    assert shirt.gallery.names == ("shirt-val-0", "shirt-val-1", "shirt-val-2")
    assert shirt.alternatives["val_triplets"].names == ("shirt-val-0", "shirt-val-1")
    assert shirt.alternatives["val_triplets"].paths == shirt.gallery.paths[:2]
    assert [t.query_id for t in dress.triplets] == [0, 1, 2]
    assert (dress.left_out, dress.missing) == (0, 0)


def test_names_listed_twice_are_one_image(fiq_root: Path) -> None:
    change(fiq_root / "image_splits" / "split.dress.val.json", lambda names: [*names, names[0]])
    assert fashioniq(fiq_root).evaluation_splits()[0].gallery.names == tuple(f"dress-val-{i}" for i in range(3))


def test_cirr_triplets(cirr_root: Path) -> None:
    """The target is target_hard, the group comes along, paths are the split file's."""
    layout = cirr(cirr_root)
    triplets = layout.training_triplets()
    assert len(triplets) == 12
    assert triplets[7] == Triplet(
        reference_name="train-1-0-img1",
        captions=("has blue stripes",),
        target_name="train-1-0-img2",
        query_id=7,
        subset_names=tuple(f"train-1-0-img{i}" for i in range(6)),
    )
    assert layout.training_gallery().paths[7] == cirr_root / "train" / "1" / "train-1-0-img1.png"


def test_cirr_evaluation_and_test(cirr_root: Path) -> None:
    (val,) = cirr(cirr_root).evaluation_splits()
    assert (val.name, len(val.triplets), len(val.gallery)) == ("val", 12, 12)
    assert val.gallery.paths[0] == cirr_root / "dev" / "dev-0-0-img0.png"
    test = cirr(cirr_root).test_split()
    assert (test.name, test.triplets[0].target_name) == ("test1", None)
    assert test.triplets[0].query_id == 24


def test_test_queries_read_no_image(cirr_root: Path) -> None:
    """A submission is checked where there are no images."""
    for path in (cirr_root / "test1").iterdir():
        path.unlink()
    queries, names = cirr(cirr_root).test_queries()
    assert len(queries) == len(names) == 12
    assert {query.target_name for query in queries} == {None}
    with pytest.raises(InputError, match="12 of 12 images are not on disk"):
        cirr(cirr_root).test_split()


def test_fashioniq_has_nothing_to_submit(fiq_root: Path) -> None:
    with pytest.raises(InputError, match="layout fashioniq has no submission files; take one of: cirr"):
        submittable("fashioniq", fashioniq(fiq_root))


def test_a_layout_that_is_only_scored_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spn4cir.datasets.adapter_class", lambda _: Scored)
    assert open_benchmark("scored", tmp_path, "error").root == tmp_path
    with pytest.raises(InputError, match="layout scored has no training split: it is only scored"):
        open_layout("scored", tmp_path, "error")


@dataclass(frozen=True)
class Scored:
    """As an adapter without a training split."""

    root: Path
    missing: str


def test_a_missing_training_image_is_named_or_its_triplets_left_out(
    fiq_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image that two triplets name, one as reference and one as target."""
    (fiq_root / "images" / "shirt-train-1.png").unlink()
    with pytest.raises(InputError, match=r"cap\.shirt\.train\.json: target 'shirt-train-1' has no image"):
        fashioniq(fiq_root).training_triplets()
    layout = fashioniq(fiq_root, "skip")
    assert [t.reference_name for t in layout.training_triplets() if t.category == "shirt"] == ["shirt-train-2"]
    assert "cap.shirt.train.json: left out 2 of 3 triplets" in capsys.readouterr().err
    assert "shirt-train-1" not in layout.training_gallery().names


@pytest.mark.parametrize("layout", ["fashioniq", "cirr"])
def test_a_missing_gallery_image_is_counted(tmp_path: Path, layout: str) -> None:
    """Under skip, the image and the queries that need it are left out, and both are reported."""
    if layout == "fashioniq":
        root, gone, total = write_fashioniq(tmp_path), "images/dress-val-2.png", 6
    else:
        root, gone, total = write_cirr(tmp_path), "dev/dev-0-0-img2.png", 12
    (root / gone).unlink()
    with pytest.raises(InputError, match=f"1 of {total} images are not on disk, the first is .*{gone}"):
        open_layout(layout, root, "error").evaluation_splits()
    split: EvaluationSplit = open_layout(layout, root, "skip").evaluation_splits()[0]
    assert (len(split.gallery), split.missing) == (total - 1, 1)
    assert (len(split.triplets), split.left_out) == (total - 2, 2)
    for alternative in split.alternatives.values():
        assert set(alternative.names) <= set(split.gallery.names)


def test_an_image_outside_the_split_file_is_missing(cirr_root: Path) -> None:
    """It is on disk, but the gallery does not list it."""
    change(cirr_root / "cirr/captions/cap.rc2.val.json", lambda records: records[0].update(reference="train-0-0-img0"))
    with pytest.raises(InputError, match="reference 'train-0-0-img0' has no image on disk or no entry"):
        cirr(cirr_root).evaluation_splits()


@pytest.mark.parametrize("layout", ["fashioniq", "cirr"])
def test_an_empty_gallery_is_an_error(tmp_path: Path, layout: str) -> None:
    root = write_fashioniq(tmp_path) if layout == "fashioniq" else write_cirr(tmp_path)
    folder = root / ("images" if layout == "fashioniq" else "dev")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="the gallery is empty"):
        open_layout(layout, root, "skip").evaluation_splits()


def test_caption_images_of_the_split_files_or_of_the_triplets(fiq_root: Path, cirr_root: Path) -> None:
    """With the prompt's noun: each category that lists the image, or `image`; none of val or test."""
    change(fiq_root / "captions" / "cap.dress.train.json", lambda records: records[:1])
    change(fiq_root / "image_splits" / "split.toptee.train.json", lambda names: [*names, "dress-train-2"])
    change(fiq_root / "image_splits" / "split.shirt.train.json", lambda names: names[1:])
    layout = fashioniq(fiq_root)
    split = layout.caption_images("split")
    assert [(image.name, image.noun) for image in split] == [
        *((f"dress-train-{i}", "dress") for i in range(3)),
        *((f"shirt-train-{i}", "shirt") for i in (1, 2)),
        *((f"toptee-train-{i}", "toptee") for i in range(3)),
        ("dress-train-2", "toptee"),
    ]
    named = layout.caption_images("triplets")
    assert [(image.name, image.noun) for image in named][:3] == [
        ("dress-train-0", "dress"),
        ("dress-train-1", "dress"),
        ("shirt-train-0", "shirt"),
    ]
    change(cirr_root / "cirr/captions/cap.rc2.train.json", lambda records: records[:1])
    assert len(cirr(cirr_root).caption_images("split")) == 12
    few = cirr(cirr_root).caption_images("triplets")
    assert [(image.name, image.noun) for image in few] == [("train-0-0-img0", "image"), ("train-0-0-img1", "image")]
    assert few[0].path.is_file()


@pytest.mark.parametrize("layout", ["fashioniq", "cirr"])
def test_images_to_caption_that_are_missing_are_counted(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if layout == "fashioniq":
        root, gone, total = write_fashioniq(tmp_path), "images/dress-train-2.png", 18
    else:
        root, gone, total = write_cirr(tmp_path), "train/0/train-0-0-img2.png", 12
    (root / gone).unlink()
    with pytest.raises(InputError, match=f"1 of {total} images are not on disk, the first is .*{gone}"):
        open_layout(layout, root, "error").caption_images("split")
    assert len(open_layout(layout, root, "skip").caption_images("split")) == total - 1
    assert f"left out 1 of {total} images to caption" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["fashioniq", "cirr"])
def test_a_query_that_asks_for_its_own_reference(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot be found if the reference is removed; it is reported when read, before any network is trained."""
    if layout == "fashioniq":
        root, place, fields = write_fashioniq(tmp_path), "captions/cap.dress.val.json", ("candidate", "target")
    else:
        root, place, fields = write_cirr(tmp_path), "cirr/captions/cap.rc2.val.json", ("reference", "target_hard")
    path = change(root / place, lambda records: records[1].update({fields[1]: records[1][fields[0]]}))
    with pytest.raises(InputError, match=r"query \d+ has its reference '\S+' as its target") as raised:
        open_layout(layout, root, "error").evaluation_splits()
    assert str(raised.value).startswith(f"{path}: ")
    split = open_layout(layout, root, "skip").evaluation_splits()[0]
    assert split.left_out == 1
    assert all(triplet.reference_name != triplet.target_name for triplet in split.triplets)
    assert f"{path}: left out 1 of {len(split.triplets) + 1} queries" in capsys.readouterr().err


def test_published_names(fiq_root: Path, cirr_root: Path) -> None:
    fiq, rc2 = fashioniq(fiq_root), cirr(cirr_root)
    assert fiq.names.captions(5) == fiq_root / "mm_data/fiq/fashioniq_it_llava_5.json"
    assert rc2.names.captions(10) == cirr_root / "mm_data/cirr/cirr_it_llava_10.json"
    assert fiq.names.triplets("clip") == fiq_root / "captions/cap.extend_clip.train.json"
    assert rc2.names.triplets("blip2") == cirr_root / "cirr/captions/cap.rc2.train.extend_blip2.json"
    assert fiq.names.unique == fiq_root / "optimized_images.json"
    assert rc2.names.unique == cirr_root / "optimized_images.json"


@pytest.mark.parametrize("kind", ["fashioniq", "cirr"])
def test_generated_triplets_are_read_as_they_were_written(tmp_path: Path, kind: str) -> None:
    if kind == "fashioniq":
        layout, names = fashioniq(write_fashioniq(tmp_path)), ("dress-train-0", "toptee-train-3")
    else:
        layout, names = cirr(write_cirr(tmp_path)), ("train-0-0-img0", "train-1-0-img3")
    given = Triplet(names[0], ("b instead of a", "Unlike a, I want b"), names[1], generated=True)
    path = write(tmp_path / "generated.json", [layout.generated_record(given, "a", "b")])
    assert layout.read_generated(path) == (given,)


def test_a_generated_triplet_of_an_absent_image_is_an_error_or_left_out(cirr_root: Path) -> None:
    record = cirr(cirr_root).generated_record(Triplet("train-0-0-img0", ("x",), "nowhere"), "a", "b")
    path = write(cirr_root / "generated.json", [record])
    with pytest.raises(InputError, match=r"generated\.json: target 'nowhere'"):
        cirr(cirr_root).read_generated(path)
    assert cirr(cirr_root, "skip").read_generated(path) == ()


@pytest.mark.parametrize("split", ["val", "test1"])
def test_a_pair_id_that_occurs_twice(cirr_root: Path, split: str) -> None:
    """Both the scored split and the annotation files alone refuse it; training ids (0 for all generated) may repeat."""
    path = cirr_root / "cirr" / "captions" / f"cap.rc2.{split}.json"
    change(path, lambda records: records[3].update(pairid=records[2]["pairid"]))
    layout = cirr(cirr_root)
    for read in [layout.evaluation_splits] if split == "val" else [layout.test_split, layout.test_queries]:
        with pytest.raises(InputError, match=rf"cap\.rc2\.{split}\.json: pair id \d+ occurs twice"):
            read()


@pytest.mark.parametrize("role", ["reference", "target_hard"])
def test_a_subset_without_its_reference_or_target(cirr_root: Path, role: str) -> None:
    def edit(records: Any) -> None:
        group = records[0]["img_set"]
        group["members"] = [name for name in group["members"] if name != records[0][role]]

    change(cirr_root / "cirr/captions/cap.rc2.val.json", edit)
    with pytest.raises(InputError, match="pair 12: members of img_set lack"):
        cirr(cirr_root).evaluation_splits()


def test_a_subset_member_that_is_not_in_the_gallery(cirr_root: Path) -> None:
    change(
        cirr_root / "cirr/captions/cap.rc2.val.json", lambda records: records[0]["img_set"]["members"].append("strange")
    )
    with pytest.raises(InputError, match="pair 12: member 'strange' of img_set is absent"):
        cirr(cirr_root).evaluation_splits()
    (split,) = cirr(cirr_root, "skip").evaluation_splits()
    assert len(split.triplets) == 12


def without(name: str) -> Any:
    return lambda records: [records[0], {key: value for key, value in records[1].items() if key != name}]


def having(**fields: Any) -> Any:
    return lambda records: [records[0], records[1] | fields]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (without("candidate"), "triplet 1 lacks the field 'candidate'"),
        (without("target"), "triplet 1 lacks the field 'target'"),
        (without("captions"), "triplet 1 lacks the field 'captions'"),
        (having(candidate=""), "field 'candidate' is '', expected a str"),
        (having(target=3), "field 'target' is 3"),
        (having(captions=["a", None]), "triplet 1: a text of field 'captions' is None; write it as text"),
        (having(captions=["a", 3]), "triplet 1: a text of field 'captions' is 3"),
        (having(captions=[]), "expected text or a list of texts"),
        (having(captions=None), "expected text or a list of texts"),
        (lambda records: {"a": 1}, "expected a JSON list of objects"),
        (lambda records: ["a"], "expected a JSON list of objects"),
    ],
)
def test_bad_records_are_named_with_file_and_place(fiq_root: Path, edit: Any, problem: str) -> None:
    path = change(fiq_root / "captions" / "cap.dress.train.json", edit)
    with pytest.raises(InputError) as raised:
        fashioniq(fiq_root).training_triplets()
    assert str(raised.value).startswith(f"{path}: ")
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (None, "lacks the field 'members'"),
        ("abc", "field 'members' is 'abc'"),
        ([["a"]], "members"),
        ([3], "expected a list of image names"),
    ],
)
def test_bad_groups_are_named(cirr_root: Path, members: Any, problem: str) -> None:
    def edit(records: Any) -> None:
        records[0]["img_set"] = {"id": 0} if members is None else {"members": members}

    change(cirr_root / "cirr/captions/cap.rc2.val.json", edit)
    with pytest.raises(InputError, match=problem):
        cirr(cirr_root).evaluation_splits()


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("fashioniq", "captions/cap.shirt.val.json"),
        ("fashioniq", "image_splits/split.toptee.val.json"),
        ("cirr", "cirr/captions/cap.rc2.val.json"),
        ("cirr", "cirr/image_splits/split.rc2.val.json"),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_absent_or_broken_files_are_named(tmp_path: Path, layout: str, file: str, damage: str) -> None:
    root = write_fashioniq(tmp_path) if layout == "fashioniq" else write_cirr(tmp_path)
    path = root / file
    text = path.read_text()
    path.unlink() if damage == "gone" else path.write_text(text[:-3] if damage == "cut" else '"text"')
    with pytest.raises(InputError) as raised:
        open_layout(layout, root, "error").evaluation_splits()
    assert str(raised.value).startswith(f"{path}: ")
    problem = {"gone": "no such file", "cut": "is not valid JSON", "other": "expected a JSON"}[damage]
    assert problem in str(raised.value)


def test_a_root_without_images(fiq_root: Path) -> None:
    (fiq_root / "images").rename(fiq_root / "photos")
    with pytest.raises(InputError, match="images: no such folder"):
        fashioniq(fiq_root).training_triplets()


def test_summaries_of_known_scores(fiq_root: Path, cirr_root: Path) -> None:
    """The mean of averages, and the mean of R@5 and R_subset@1."""
    per = {"dress": (10.0, 50.0), "shirt": (20.0, 60.0), "toptee": (60.0, 70.0)}
    flat = fashioniq(fiq_root).summarise({c: {"recall_at10": a, "recall_at50": b} for c, (a, b) in per.items()})
    assert flat["shirt_recall_at50"] == 60.0
    assert (flat["average_recall_at10"], flat["average_recall_at50"]) == (30.0, 60.0)
    assert flat["average_recall"] == 45.0
    assert len(flat) == 9
    scores = cirr(cirr_root).summarise({"val": {"recall_at5": 40.0, "recall_subset_at1": 60.0}})
    assert scores["mean_recall5_subset1"] == 50.0
