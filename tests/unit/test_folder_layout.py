"""The layout `folder`: images named by their paths, with a table of annotations or without."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.config.params import Dataset, Validate
from spn4cir.datasets import open_layout, submittable
from spn4cir.datasets.folder import Folder
from spn4cir.datasets.rows import read_table
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.types import Triplet
from tests.conftest import CPU
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer

NAMES = [f"{kind}/{number}.png" for kind in ("mug", "pot") for number in range(10)]
ROW = {"reference": "mug/0.png", "target": "mug/1.png", "text": "is red"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty images in two sub-folders, and what is none of them."""
    for number, name in enumerate(NAMES):
        draw(tmp_path / "shop" / name, number)
    draw(tmp_path / "shop" / ".thumbnails" / "0.png", 0)
    (tmp_path / "shop" / "notes.txt").write_text("no image")
    return tmp_path / "shop"


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def chain(**more: Any) -> list[dict[str, Any]]:
    """Each image with the next as its target."""
    pairs = zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True)
    return [{"reference": one, "target": two, "text": f"as {two}, please", **more} for one, two in pairs]


def annotated(root: Path, rows: list[dict[str, Any]], missing: str = "error", **options: Any) -> Folder:
    write_csv(root / "a.csv", rows)
    layout = open_layout("folder", root, missing, {"annotations": "a.csv", **options})
    assert isinstance(layout, Folder)
    return layout


def test_without_annotations_all_images_are_trained_on(root: Path) -> None:
    layout = open_layout("folder", root, "error")
    assert layout.training_gallery().names == tuple(NAMES)
    assert [image.name for image in layout.caption_images("split")] == NAMES
    assert {image.noun for image in layout.caption_images("triplets")} == {"image"}
    assert layout.training_triplets() == ()
    assert layout.evaluation_splits() == ()
    assert layout.image_path("mug/3.png") == root / "mug/3.png"


def generated(count: int) -> list[Triplet]:
    names = [f"{number}.png" for number in range(count)]
    return [Triplet(name, ("red",), names[(7 * n + 3) % count], generated=True) for n, name in enumerate(names)]


def test_held_out_queries_share_no_image_with_training_triplets(root: Path) -> None:
    """Whatever the share: every generated triplet is learnt from, a query, or touches both and is neither."""
    triplets = generated(200)
    for share in (0.05, 0.1, 0.4):
        layout = open_layout("folder", root, "error", {"held_out": share})
        training, queries = layout.hold_out(triplets)
        learnt = {name for t in training for name in (t.reference_name, t.target_name)}
        held = {name for t in queries for name in (t.reference_name, t.target_name)}
        assert not learnt & held
        assert share * 200 <= len(held) <= share * 200 + 1
        assert set(training) | set(queries) <= set(triplets)
        assert len(training) > (1 - 2.5 * share) * 200
        assert layout.hold_out(triplets) == (training, queries)


def test_held_out_queries_are_the_same_when_other_triplets_come(root: Path) -> None:
    """The lot of a triplet depends on its reference's name alone."""
    layout = open_layout("folder", root, "error")
    fewer = [t for t in generated(200) if t.reference_name not in ("5.png", "77.png")]
    kept = {t.reference_name for t in layout.hold_out(fewer)[1]}
    all_of_them = {t.reference_name for t in layout.hold_out(generated(200))[1]}
    assert len(kept ^ all_of_them) <= 2


def test_generated_queries_are_scored_over_the_whole_folder_and_named_so(root: Path, protocol: Validate) -> None:
    queries = [Triplet("mug/0.png", ("red",), "mug/1.png", generated=True)]
    layout = open_layout("folder", root, "error").with_queries(queries, 12)
    (split,) = layout.evaluation_splits()
    assert split.gallery.names == tuple(NAMES)
    assert split.alternatives["named_by_queries"].names == ("mug/0.png", "mug/1.png")
    stub = StubComposer()
    images = encode_splits(stub, (split,), protocol, 0, CPU)
    content = metrics_file(evaluate(stub, layout, (split,), images, protocol, CPU), layout, protocol, stub)
    assert content["protocol"]["queries"] == (
        "generated from captions, held out: their images are in no training triplet"
    )
    assert content["protocol"]["splits"] == (
        "1 of 12 rows are split val: generated triplets, held out by lot: those of a share of 0.1 of the images, by a "
        "hash of the references' names"
    )
    assert content["counts"]["assigned"] == {"val": {"rows": 1, "of": 12}}
    assert content["protocol"]["gallery"] == "all images of the folder"
    assert content["alternatives"]["named_by_queries"]["recall_at1"] == 100.0
    assert {"recall_at1", "recall_at10", "average_recall"} <= content.keys()
    assert layout.protocol.selection in content


def test_without_any_query_scoring_says_what_to_do(root: Path, protocol: Validate) -> None:
    layout = open_layout("folder", root, "error")
    with pytest.raises(InputError, match=r"no query to score by: .*annotate some, or choose a family .*\(zs\)"):
        encode_splits(StubComposer(), layout.evaluation_splits(), protocol, 0, CPU)


def test_rows_go_to_the_split_that_they_name(root: Path) -> None:
    rows = chain(split="train")
    rows[0]["split"] = rows[1]["split"] = "val"
    rows[10]["split"] = "test"
    layout = annotated(root, rows)
    assert len(layout.training_triplets()) == 17
    val, test = layout.evaluation_splits()
    assert [t.reference_name for t in val.triplets] == NAMES[:2]
    assert (val.name, test.name, len(test.triplets)) == ("val", "test", 1)
    assert val.triplets[0].captions == ("as mug/1.png, please",)
    assert len(val.gallery) == 20
    assert layout.protocol.queries == "annotated"


def test_test_rows_are_scored_beside_and_choose_nothing(root: Path) -> None:
    layout = annotated(root, [*chain(split="val")[:2], *chain(split="test")[5:7], *chain(split="train")[8:]])
    scores = {f"recall_at{k}": float(k) for k in layout.protocol.recall_ks}
    flat = layout.summarise({"val": scores, "test": dict.fromkeys(scores, 0.0)})
    assert flat["average_recall"] == 30.0
    assert flat["test_average_recall"] == 0.0
    assert layout.protocol.selection == "average_recall"


def test_without_a_split_column_a_share_of_the_references_is_for_validation(root: Path) -> None:
    layout = annotated(root, chain(), held_out=0.3)
    (val,) = layout.evaluation_splits()
    assert 1 <= len(val.triplets) <= 12
    references = {t.reference_name for t in val.triplets}
    assert references.isdisjoint(t.reference_name for t in layout.training_triplets())
    assert len(references) + len({t.reference_name for t in layout.training_triplets()}) == 20
    (fewer,) = annotated(root, chain(), held_out=1e-9).evaluation_splits()
    assert len(fewer.triplets) == 1, "one at least"


def test_images_that_only_queries_name_are_not_trained_on(root: Path) -> None:
    """With queries and no training row, the others are: a small table scores what the images alone taught."""
    layout = annotated(root, chain(split="val")[:3])
    learnt = tuple(NAMES[4:])
    assert layout.training_gallery().names == learnt
    assert tuple(image.name for image in layout.caption_images("split")) == learnt
    assert layout.hold_out(generated(30)) == (generated(30), ())
    assert layout.with_queries(generated(3), 30) is layout


@pytest.mark.parametrize("form", ["key", "names", "list"])
def test_groups_are_subsets_as_in_cirr(root: Path, form: str) -> None:
    rows = chain(split="val")[:3]
    members = NAMES[:4]
    groups = {"key": "mugs", "names": ";".join(members), "list": members}
    rows = [row | {"group": groups[form]} for row in rows]
    if form == "list":
        pq.write_table(pa.Table.from_pylist(rows), root / "a.parquet")
        layout = open_layout("folder", root, "error", {"annotations": "a.parquet"})
    else:
        layout = annotated(root, rows)
    (val,) = layout.evaluation_splits()
    assert [set(t.subset_names) for t in val.triplets] == [set(members)] * 3
    assert layout.protocol.subset_ks == (1, 2, 3)
    assert layout.protocol.selection == "mean_recall5_subset1"
    assert layout.summarise({"val": {"recall_at5": 10.0, "recall_subset_at1": 30.0}})["mean_recall5_subset1"] == 20.0


def test_parquet_and_csv_hold_the_same(root: Path) -> None:
    rows = [ROW | {"text": 'is "red", long', "split": "val"}, ROW | {"split": "train"}]
    pq.write_table(pa.Table.from_pylist(rows), root / "a.parquet")
    assert read_table(write_csv(root / "a.csv", rows)) == read_table(root / "a.parquet")


def test_annotations_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", chain())
    layout = open_layout("folder", root, "error", {"annotations": str(file)})
    assert len(layout.training_triplets()) == 20 - len(layout.evaluation_splits()[0].triplets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reference,text\na,b\n", r"a.csv: lacks the column target \(columns there: reference, text\); name"),
        ("reference,target,text,text,split\na,b,x,y,train\n", "a.csv: has the column 'text' twice; give each column"),
        ("", r"a.csv: lacks the column reference \(columns there: none\)"),
        ("reference,target,text\n", "a.csv: has no rows; annotate some triplets"),
        ("reference,target,text\na,b,red, long\n", r"a.csv: line 2 does not have as many cells .*in quotes"),
        ("reference,target,text\na,b\n", "a.csv: line 2 does not have as many cells"),
        ("reference,target,text\na,b,x\n,b,x\n", "a.csv: row 2: reference is ''; write it, or remove the row"),
        ("reference,target,text,split\na,b,x,all\n", "row 1: split is 'all', expected one of train, val, test"),
        ('reference,target,text\na,b,"x\n', "a.csv: is not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_will_not_do(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.csv")


def test_a_parquet_with_a_column_twice(tmp_path: Path) -> None:
    cells = pa.array(["a"])
    rows = pa.table([cells, cells, cells, cells], names=["reference", "target", "text", "text"])
    pq.write_table(rows, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: has the column 'text' twice; give each column a name"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.list_(pa.string()), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_a_parquet_with_a_text_longer_than_a_cell_of_csv(tmp_path: Path, kind: pa.DataType) -> None:
    for length in (1 << 17, (1 << 17) + 1):
        texts = [*["x"] * 20, "é" * length]
        texts = pa.array([[text] for text in texts] if pa.types.is_list(kind) else texts, kind)
        rows = pa.table([pa.array(["a"] * 21), pa.array(["b"] * 21), texts], names=["reference", "target", "text"])
        pq.write_table(rows, tmp_path / f"{length}.parquet")
    assert len(read_table(tmp_path / f"{1 << 17}.parquet")) == 21
    with pytest.raises(InputError, match=r"row 21: text has 131,073 characters, expected at most 131,072; shorten"):
        read_table(tmp_path / f"{(1 << 17) + 1}.parquet")


@pytest.mark.parametrize(("length", "rows", "most", "parts"), [(20, 20_000, 20_000, 10), (100_000, 200, 32, 13)])
def test_rows_of_a_parquet_are_checked_together_only_if_they_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, rows: int, most: int, parts: int
) -> None:
    """Equal texts are stored once: both files are small, and the second one has 20 MB of texts."""
    checked: list[int] = []
    monkeypatch.setattr("spn4cir.datasets.rows.check_lengths", lambda column, *_: checked.append(len(column)))
    cells = {"reference": ["a"] * rows, "target": ["b"] * rows, "text": ["x" * length] * rows}
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    assert len(read_table(tmp_path / "a.parquet")) == rows
    assert sum(checked) == 3 * rows
    assert max(checked) <= most
    assert len(checked) <= 3 * parts


def test_a_table_that_is_absent_or_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InputError, match=r"a.parquet: is not a parquet file \(.*\); write it again"):
        read_table(tmp_path / "a.parquet")
    for name in ("b.parquet", "b.csv"):
        with pytest.raises(InputError, match=rf"{name}: no such file; give the CSV or parquet file"):
            read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": "mug/99.png"}, "target 'mug/99.png' has no image on disk"),
        ({"target": "mug/0.png"}, "query 0 has its reference 'mug/0.png' as its target"),
        ({"group": "mug/0.png;mug/5.png"}, r"row 1: its group lacks \['mug/1.png'\]"),
        ({"group": "mug/0.png;mug/1.png;gone.png"}, "row 1: 'gone.png' of its group is absent"),
    ],
)
def test_queries_that_will_not_do(root: Path, row: dict[str, str], message: str) -> None:
    layout = annotated(root, [ROW | {"split": "val"} | row])
    with pytest.raises(InputError, match=message):
        layout.evaluation_splits()


def test_all_queries_have_groups_or_none(root: Path) -> None:
    rows = [row | {"group": group} for row, group in zip(chain(split="val")[:2], ("mugs", ""), strict=True)]
    with pytest.raises(InputError, match="row 2 has no group; give every row of val and test one, or none"):
        annotated(root, rows).evaluation_splits()


def test_missing_images_are_left_out_when_skipping(root: Path) -> None:
    rows = [*chain(split="val")[:2], ROW | {"split": "val", "target": "gone.png"}, *chain(split="train")[5:7]]
    (val,) = annotated(root, rows, "skip").evaluation_splits()
    assert (len(val.triplets), val.left_out, val.missing) == (2, 1, 1)


def test_other_layouts_take_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout cirr takes no 'annotations'; leave it out"):
        open_layout("cirr", tmp_path, "error", {"annotations": "a.csv"})


def test_nothing_is_submitted(root: Path) -> None:
    with pytest.raises(InputError, match="layout folder has no submission files"):
        submittable("folder", open_layout("folder", root, "error"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the gallery is empty: no file ends in"):
        open_layout("folder", tmp_path, "error").training_gallery()


def test_the_settings_have_the_options_that_are_set() -> None:
    assert Dataset(layout="cirr", missing="skip", pool=None).options == {}
    assert Dataset(layout="folder", missing="skip", pool=None, annotations="a.csv", held_out=0.2).options == {
        "annotations": "a.csv",
        "held_out": 0.2,
    }
