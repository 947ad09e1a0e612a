"""Which split a row belongs to: names of files and folders, cells, and rows that state none."""

from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pytest

import spn4cir.progress
from spn4cir.cli.groups import table_settings
from spn4cir.config.params import Dataset, Validate
from spn4cir.datasets import open_layout
from spn4cir.datasets.splits import Assigned, assign_splits, lot, split_of_cell, split_of_path
from spn4cir.datasets.table import Table
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from tests.conftest import CPU
from tests.helpers.layouts import draw, image_cells, write_parquet
from tests.helpers.stub import StubComposer
from tests.helpers.tables import table, write_rows

LOT = "held out by lot, a share of {} of the references by a hash of their names, as no row states val"


@pytest.fixture(autouse=True)
def no_lines_printed_yet() -> None:
    """Resets the record of lines, each of which is printed once per process."""
    spn4cir.progress.say_once.cache_clear()


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("data/train-00000-of-00001-ab12cd34.parquet", "train"),
        ("my_training_file.parquet", "train"),
        ("train1.parquet", "train"),
        ("parquet-train-00000-of-00002.arrow", "train"),
        ("validation-00000-of-00001.parquet", "val"),
        ("cirr-validation.parquet", "val"),
        ("cirr_val_0.parquet", "val"),
        ("cap.dress.val.parquet", "val"),
        ("valid.parquet", "val"),
        ("dev 2.parquet", "val"),
        ("val2017.parquet", "val"),
        ("VAL.parquet", "val"),
        ("parquet-validation.arrow", "val"),
        ("validation/0.parquet", "val"),
        ("val/data/0.parquet", "val"),
        ("fiq_dev/shirt/data-00000-of-00001.arrow", "val"),
        ("val/eval.parquet", "eval"),
        ("eval_val.parquet", "val"),
        ("eval.parquet", "eval"),
        ("evaluation-0.parquet", "eval"),
        ("eval/0.parquet", "eval"),
        ("eval_test.parquet", "test"),
        ("cirr-test1.parquet", "test"),
        ("testing.parquet", "test"),
        ("test/train-00000-of-00001.parquet", "test"),
        ("cirr_val/data/parquet-train.arrow", "val"),
        ("train_test_split/train.parquet", "train"),
        ("validation/test.parquet", "test"),
        ("train/test/0.parquet", "test"),
        ("train_val/test.parquet", "test"),
        ("0.parquet", ""),
        ("triplets.parquet", ""),
        ("traindata.parquet", ""),
        ("cirrval.parquet", ""),
        ("latest.parquet", ""),
        ("contest/values.parquet", ""),
        ("retrieval.parquet", ""),
        ("device/0.parquet", ""),
        ("valuation-trainer.parquet", ""),
    ],
)
def test_names_of_files_and_folders(path: str, split: str) -> None:
    """The hub's keywords between its separators: the file's name, then the nearest folder; train only by both."""
    assert split_of_path(PurePosixPath(path), path) == split


@pytest.mark.parametrize(
    ("path", "stated"),
    [
        ("a/train_val.parquet", "train and val"),
        ("val-test.parquet", "test and val"),
        ("train_test_split/0.parquet", "test and train"),
        ("train-eval.parquet", "eval and train"),
    ],
)
def test_a_name_that_states_two_splits(path: str, stated: str) -> None:
    with pytest.raises(InputError, match=rf"^the place: '.*' states {stated}; rename it, or"):
        split_of_path(PurePosixPath(path), "the place")


@pytest.mark.parametrize(
    ("cell", "split"),
    [
        ("train", "train"),
        ("training", "train"),
        ("TEST", "test"),
        ("test1", "test"),
        (" val ", "val"),
        ("validation", "val"),
        ("dress/val", "val"),
        ("dev", "val"),
        ("eval", "eval"),
    ],
)
def test_cells(cell: str, split: str) -> None:
    assert split_of_cell(cell, "row 1") == split


@pytest.mark.parametrize("cell", ["other", "", None, 0, 1.0, True, float("nan"), "unlabelled"])
def test_cells_that_state_no_split(cell: Any) -> None:
    with pytest.raises(InputError, match=r"^row 1: split is .*, expected one of train, val, test; write one, or"):
        split_of_cell(cell, "row 1")


def assigned(stated: list[str], share: float = 0.1, all_scored: bool = False) -> tuple[str, list[tuple[str, int, int]]]:
    """The first letters of the splits, and split and counts of what was assigned; references are `0`, `1`, ..."""
    references = [str(number) for number in range(len(stated))]
    splits, found = assign_splits(stated, references, share, all_scored)
    return "".join(split[0] if split != "test" else "x" for split in splits), [each[:3] for each in found]


@pytest.mark.parametrize(
    ("stated", "all_scored", "splits", "counts"),
    [
        (["train", "val", "test"], False, "tvx", []),
        (["train", "val", "eval"], False, "tvx", []),
        (["train", "eval", "test"], False, "tvx", [("val", 1, 3)]),
        (["train", "eval", ""], False, "tvt", [("val", 1, 3), ("train", 1, 3)]),
        (["", "val", ""], False, "tvt", [("train", 2, 3)]),
        (["test", "test"], False, "vv", [("val", 2, 2)]),
        (["val", "test"], False, "vx", []),
        (["eval", "eval"], False, "vv", [("val", 2, 2)]),
        (["", ""], True, "vv", [("val", 2, 2)]),
        (["train", "", ""], True, "tvv", [("val", 2, 3)]),
        (["", "eval", "train"], True, "vvt", [("val", 2, 3)]),
        (["test", "test"], True, "vv", [("val", 2, 2)]),
        ([], False, "", []),
    ],
)
def test_rows_that_state_none(
    stated: list[str], all_scored: bool, splits: str, counts: list[tuple[str, int, int]]
) -> None:
    assert assigned(stated, all_scored=all_scored) == (splits, counts)


def test_the_lot_decides_where_no_row_is_for_validation() -> None:
    """Among rows of train and those that state nothing; rows of test stay where they are, and one query there is."""
    stated = ["train", "", "test", "train", "test", ""]
    drawn = {row: lot(str(row)) for row in (0, 1, 3, 5)}
    order = sorted(drawn, key=drawn.__getitem__)
    share = drawn[order[2]]
    splits, (found,) = assign_splits(stated, [str(row) for row in range(6)], share)
    assert {row for row, split in enumerate(splits) if split == "val"} == set(order[:2])
    assert [splits[2], splits[4]] == ["test", "test"]
    assert found == Assigned("val", 2, 4, LOT.format(f"{share:g}"))
    assert assigned(stated, share=1e-9)[1] == [("val", 1, 4)]


def write_files(root: Path, files: dict[str, int], **columns: list[Any]) -> Table:
    """Tables of so many rows each, row n of images n and n + 1; further `columns` in each."""
    total = sum(files.values())
    for number in range(total + 1):
        draw(root / f"pictures/{number}.png", number)
    first = 0
    for name, count in files.items():
        names = [f"pictures/{number}.png" for number in range(first, first + count + 1)]
        rows = {"reference": names[:-1], "target": names[1:], "text": ["is red"] * count, **columns}
        if name.endswith(".arrow"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            written = pa.table(rows)
            with pa.ipc.new_stream(root / name, written.schema) as writer:
                writer.write_table(written)
        else:
            write_parquet(root / name, rows)
        first += count
    return table(root)


@pytest.mark.parametrize(
    ("files", "train", "val", "test"),
    [
        (["parquet-train.arrow", "parquet-validation.arrow"], [0, 1, 2, 3], [4, 5, 6, 7], []),
        (["cirr_train_0.parquet", "cirr_val_0.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], []),
        (["cirr-train.parquet", "cirr-validation.parquet", "cirr-test.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]),
        (["train.parquet", "eval.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], []),
        (["train.parquet", "eval.parquet", "test.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]),
        (["train.parquet", "dev.parquet", "eval.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]),
        (["more.parquet", "valid.parquet"], [0, 1, 2, 3], [4, 5, 6, 7], []),
        (["test-0.parquet", "test-1.parquet"], [], list(range(8)), []),
        (["eval/0.parquet", "eval/1.parquet"], [], list(range(8)), []),
    ],
)
def test_a_folder_of_tables(
    tmp_path: Path, files: list[str], train: list[int], val: list[int], test: list[int]
) -> None:
    """Each row is in the split that its file's name states, and no row named for evaluation is learnt from."""
    layout = write_files(tmp_path, dict(zip(files, (4, 4, 2), strict=False)))
    found = {split.name: numbers(split.triplets) for split in layout.evaluation_splits()}
    assert numbers(layout.training_triplets()) == train
    assert found == {"val": val} | ({"test": test} if test else {})


def numbers(triplets: Any) -> list[int]:
    """The numbers of the triplets' references, in order."""
    return sorted(int(Path(triplet.reference_name).stem) for triplet in triplets)


@pytest.mark.parametrize(
    "files", [{"triplets.parquet": 60}, {"train.parquet": 60}, {"train.parquet": 40, "a.parquet": 20}]
)
def test_what_is_held_out_by_lot_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: Validate, files: dict[str, int]
) -> None:
    """9 of 60 references are below 0.1; the line is printed once, the metrics file has the counts and the rule."""
    layout = write_files(tmp_path, files)
    (val,) = layout.evaluation_splits()
    held = [0, 11, 12, 14, 20, 25, 36, 39, 46]
    assert numbers(val.triplets) == held
    assert numbers(layout.training_triplets()) == [number for number in range(60) if number not in held]
    sentence = f"9 of 60 rows are split val: {LOT.format(0.1)}"
    assert capsys.readouterr().err == (
        f"{tmp_path}: {sentence}; names of files or a column of splits override this, or --table split=val for "
        "all rows (in params.yaml table.split)\n"
    )
    content = scored(layout, protocol)
    assert content["protocol"]["splits"] == sentence
    assert content["counts"]["assigned"] == {"val": {"rows": 9, "of": 60}}
    table(tmp_path).evaluation_splits()
    assert capsys.readouterr().err == ""


def scored(layout: Any, protocol: Validate) -> dict[str, Any]:
    """The metrics file of a stub."""
    stub, splits = StubComposer(), layout.evaluation_splits()
    images = encode_splits(stub, splits, protocol, 0, CPU)
    return metrics_file(evaluate(stub, layout, splits, images, protocol, CPU), layout, protocol, stub)


def test_where_all_is_stated_nothing_is_printed(tmp_path: Path, capsys: Any, protocol: Validate) -> None:
    layout = write_files(tmp_path, {"train.parquet": 4, "val.parquet": 2})
    content = scored(layout, protocol)
    assert "splits" not in content["protocol"]
    assert "assigned" not in content["counts"]
    assert capsys.readouterr().err == ""


def test_rows_of_test_alone_are_scored_instead_of_val_and_it_is_reported(tmp_path: Path, protocol: Validate) -> None:
    """The recalls have no prefix, and an epoch may be chosen by them."""
    layout = write_files(tmp_path, {"test.parquet": 3})
    content = scored(layout, protocol)
    assert content["protocol"]["splits"] == "3 of 3 rows are split val: they state test, and no row states train or val"
    assert {"recall_at1", layout.protocol.selection} <= content.keys()


def write_queries(root: Path, queries: str, relevance: dict[str, list[int]]) -> Table:
    """Queries with a corpus, and a table of targets of so many of them each, all unnamed unless the paths state it."""
    count = sum(map(len, relevance.values()))
    cells = image_cells(root, 5)
    write_parquet(root / "corpus/c.parquet", {"id": [f"c{n}" for n in range(5)], "image": cells})
    rows = {"id": list(range(count)), "image": cells[:1] * count, "text": ["is red"] * count}
    write_parquet(root / "queries" / queries, rows)
    for name, ids in relevance.items():
        write_parquet(root / "qrels" / name, {"query-id": ids, "corpus-id": [f"c{1 + n % 4}" for n in ids]})
    columns = {"reference": "image", "query": "id"}
    return table(root, files="queries/*", images="corpus/*", targets="qrels/*", columns=columns)


@pytest.mark.parametrize(
    ("queries", "relevance", "train", "val", "test"),
    [
        ("queries.parquet", {"qrels.parquet": list(range(60))}, 0, 60, 0),
        ("test-00000-of-00001.parquet", {"test-00000-of-00001.parquet": list(range(60))}, 0, 60, 0),
        ("queries.parquet", {"test.parquet": list(range(60))}, 0, 60, 0),
        ("train-00000-of-00001.parquet", {"test.parquet": list(range(60))}, 0, 60, 0),
        ("queries.parquet", {"train.parquet": list(range(40)), "dev.parquet": list(range(40, 60))}, 40, 20, 0),
        ("queries.parquet", {"train.parquet": [0, 1], "dev.parquet": [2], "test.parquet": [3, 4, 5]}, 2, 1, 3),
    ],
)
def test_queries_of_a_benchmark_are_all_scored_unless_a_name_states_train(
    tmp_path: Path, queries: str, relevance: dict[str, list[int]], train: int, val: int, test: int
) -> None:
    layout = write_queries(tmp_path, queries, relevance)
    found = {split.name: len(split.triplets) for split in layout.evaluation_splits()}
    assert (len(layout.training_triplets()), found.get("val", 0), found.get("test", 0)) == (train, val, test)


def test_a_query_that_is_named_for_two_splits(tmp_path: Path) -> None:
    layout = write_queries(tmp_path, "val.parquet", {"test.parquet": [0]})
    with pytest.raises(InputError, match=r"val\.parquet: row 0: the names of its files state test and val; rename one"):
        layout.evaluation_splits()


@pytest.mark.parametrize("split", ["val", "test"])
def test_all_rows_are_of_the_split_that_the_settings_say(tmp_path: Path, split: str) -> None:
    """Whatever names and columns state; and with the form that add-dataset writes."""
    write_files(tmp_path, {"train.parquet": 4, "train_val.parquet": 4}, split=["train"] * 4)
    layout = table(tmp_path, split=split)
    (found,) = layout.evaluation_splits()
    assert (numbers(found.triplets), layout.training_triplets()) == (list(range(8)), ())
    settings = Dataset.model_validate({"layout": "table", "missing": "error", "pool": None, "table": {"split": split}})
    assert settings.options == {"table": {"split": split}}


def test_all_rows_of_train_are_held_out_of_by_lot(tmp_path: Path) -> None:
    write_files(tmp_path, {"dev/a.parquet": 60})
    assert len(table(tmp_path, split="train").training_triplets()) == 51


def test_the_split_of_all_rows_on_the_command_line() -> None:
    """A split is that of all rows; another name is a column's."""
    assert table_settings(["split=val", "text=t"]) == {"split": "val", "columns": {"text": "t"}}
    assert table_settings(["split=part"]) == {"columns": {"split": "part"}}


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("training", "train"),
        ("validation", "val"),
        ("valid", "val"),
        ("dev", "val"),
        ("eval", "val"),
        ("evaluation", "val"),
        ("testing", "test"),
        ("Validation", "val"),
    ],
)
def test_another_keyword_of_a_split_is_that_split_on_the_command_line(word: str, split: str) -> None:
    assert table_settings([f"split={word}"]) == {"split": split}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "all"}, "all rows are of split 'all'; give one of train, val, test"),
        ({"split": "val", "columns": {"split": "part"}}, "all rows are of split 'val' and of a column 'part'"),
    ],
)
def test_a_split_of_all_rows_that_will_not_do(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_rows(tmp_path)
    with pytest.raises(InputError, match=message):
        table(tmp_path, **settings).evaluation_splits()


@pytest.mark.parametrize("blank", [None, "", " "])
def test_a_column_that_is_blank_throughout_is_absent(tmp_path: Path, blank: str | None) -> None:
    """The file's name counts then; in a column that states splits, a blank cell is refused by its row."""
    layout = write_files(tmp_path, {"train.parquet": 2, "val.parquet": 2}, split=pa.array([blank] * 2, pa.string()))
    assert numbers(layout.training_triplets()) == [0, 1]
    write_files(tmp_path, {"train.parquet": 2, "val.parquet": 2}, split=["train", blank])
    with pytest.raises(InputError, match=r"train\.parquet: row 1: split is .*, expected one of train, val, test"):
        table(tmp_path).training_triplets()


def test_class_labels_are_read_by_their_names(tmp_path: Path) -> None:
    """As the library `datasets` writes them: numbers in the column, names in the schema."""
    names = {"split": ["train", "validation"], "category": ["mug", "pot"]}
    features = {key: {"names": own, "_type": "ClassLabel"} for key, own in names.items()}
    cells = image_cells(tmp_path, 3)
    columns = {"reference": cells[:2], "target": cells[1:], "text": ["a", "b"], "split": [1, 0], "category": [0, 1]}
    write_parquet(tmp_path / "t.parquet", columns, features)
    layout = table(tmp_path)
    assert [t.category for t in layout.evaluation_splits()[0].triplets] == ["mug"]
    assert [t.category for t in layout.training_triplets()] == ["pot"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Sixty images for a CSV beside them."""
    for number in range(60):
        draw(tmp_path / f"{number}.png", number)
    return tmp_path


def annotate(root: Path, splits: list[str] | None) -> Any:
    """The layout `folder` with a row for each image; None: without a column of splits."""
    rows = [f"{number}.png,{(number + 1) % 60}.png,is red" for number in range(60)]
    lines = ["reference,target,text" + (",split" if splits else "")]
    lines += [f"{row},{split}" for row, split in zip(rows, splits, strict=True)] if splits else rows
    (root / "a.csv").write_text("\n".join(lines))
    return open_layout("folder", root, "error", {"annotations": "a.csv"})


@pytest.mark.parametrize("splits", [None, [""] * 60, ["train"] * 60])
def test_a_csv_without_rows_for_validation(
    shop: Path, capsys: pytest.CaptureFixture[str], protocol: Validate, splits: list[str] | None
) -> None:
    content = scored(annotate(shop, splits), protocol)
    sentence = f"6 of 60 rows are split val: {LOT.format(0.1)}"
    assert content["counts"]["assigned"] == {"val": {"rows": 6, "of": 60}}
    assert content["protocol"]["splits"] == sentence
    assert (
        capsys.readouterr().err
        == f"{shop}/a.csv: {sentence}; to choose other rows, write val in their column 'split'\n"
    )


def test_a_csv_with_the_words_of_the_hub(shop: Path) -> None:
    layout = annotate(shop, ["training"] * 40 + ["Validation"] * 10 + ["TEST"] * 10)
    assert len(layout.training_triplets()) == 40
    assert [(split.name, len(split.triplets)) for split in layout.evaluation_splits()] == [("val", 10), ("test", 10)]
