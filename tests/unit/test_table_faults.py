"""Input that the layout `table` refuses, and the messages."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.errors import InputError
from spn4cir.images.table_cells import open_rows
from spn4cir.projects.check import check_data
from tests.helpers.layouts import IMAGE_CELL, image_cells, write_parquet, write_table
from tests.helpers.tables import table, write_benchmark, write_relevance, write_rows


def test_a_query_without_an_answer_is_named(tmp_path: Path) -> None:
    settings = write_benchmark(tmp_path)
    layout = table(tmp_path, **settings | {"columns": {"reference": "image", "query": "text"}})
    with pytest.raises(
        InputError, match=r"query/test-.*\.parquet: row 0: query 'is red' has no target in qrels/\*; set"
    ):
        layout.evaluation_splits()


def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    published = write_table(tmp_path)
    with pytest.raises(InputError) as raised:
        table(published).training_triplets()
    assert str(raised.value) == (
        f"{published}/data/train-00000-of-00001.parquet: lacks the column 'reference' (columns there: reference_image, "
        "target_image, text); give its name by --table reference=NAME (in params.yaml columns.reference of the "
        "data set's table), or choose the files by files, images and targets"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": [None, "b"]}, r"t\.parquet: row 0: text is None; write it, or remove the row"),
        ({"reference": [None, "x"]}, r"t\.parquet: row 0: reference is None"),
        ({"reference": [1, 2]}, r"column reference: is of type int64, expected bytes, \{bytes, path\}, or a name"),
        ({"split": ["val", "other"]}, r"t\.parquet: row 1: split is 'other', expected one of train, val, test"),
        ({"target": ["gone.png", "gone.png"]}, r"target 'gone\.png' has no image on disk"),
    ],
)
def test_rows_that_will_not_do(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_rows(tmp_path, **change)
    with pytest.raises(InputError, match=message):
        table(tmp_path).evaluation_splits()


def _with_references(root: Path, cells: list[dict[str, Any]]) -> None:
    """Writes two rows whose reference images are structs of any type."""
    rows = pq.read_table(write_rows(root))
    pq.write_table(rows.set_column(0, "reference", pa.array(cells)), root / "t.parquet")


def test_the_bytes_of_an_image_are_not_numbers(tmp_path: Path) -> None:
    _with_references(tmp_path, [{"bytes": 1}, {"bytes": 2}])
    with pytest.raises(InputError, match="column reference: is of type struct<bytes: int64>, expected bytes"):
        table(tmp_path).evaluation_splits()


def test_a_path_that_is_a_number_names_no_image(tmp_path: Path) -> None:
    _with_references(tmp_path, [cell | {"path": 7} for cell in image_cells(tmp_path, 2)])
    (val,) = table(tmp_path).evaluation_splits()
    assert len(val.triplets[0].reference_name) == 32  # the digest of its bytes


@pytest.mark.parametrize("path", [None, "gone.png"])
def test_a_row_without_the_bytes_of_its_image(tmp_path: Path, path: str | None) -> None:
    """The message names its row; it is left out when skipping, and check-data reports it as missing."""
    cells = image_cells(tmp_path, 2)
    write_rows(tmp_path, target=[{"bytes": None, "path": path}, cells[0]])
    name = path or "t.parquet/0/target"
    with pytest.raises(InputError, match=f"target '{name}' has no image"):
        table(tmp_path).evaluation_splits()
    (val,) = table(tmp_path, "skip").evaluation_splits()
    assert (val.left_out, val.missing, val.triplets) == (1, 1, ())
    found = check_data(table(tmp_path), 0)
    assert [fault.name for fault in found.missing] == [name]


def test_a_broken_image_is_named_by_its_row(tmp_path: Path) -> None:
    cells = image_cells(tmp_path, 2)
    write_rows(tmp_path, target=[cells[1], cells[0] | {"bytes": cells[0]["bytes"][:60], "path": "broken.png"}])
    found = check_data(table(tmp_path), 0)
    assert [(fault.name, fault.path) for fault in found.broken] == [("broken.png", f"{tmp_path}/t.parquet/1/target")]


def test_a_cell_that_is_not_an_image(tmp_path: Path) -> None:
    cells = image_cells(tmp_path, 2)
    write_rows(tmp_path, target=[cells[1], {"bytes": b"words", "path": "words.png"}])
    (fault,) = check_data(table(tmp_path), 0).broken
    assert fault.reason == "cannot be decoded (no known image format)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "corpus/*"}, r"no \.parquet or \.arrow file matches images 'corpus/\*'"),
        (
            {"files": "/tmp/*"},
            r"no \.parquet or \.arrow file matches files '/tmp/\*'; write it as a path",
        ),
        ({"files": "a**b"}, r"matches files 'a\*\*b'"),
        ({"files": "."}, r"matches files '\.'"),
        ({"columns": {"target": "reference"}}, "reference and target are both the column 'reference'"),
        ({"columns": {"text": "target"}}, "target and text are both the column 'target'"),
        (
            {"columns": {"refrence": "a"}},
            "layout table has no setting 'refrence'; choose from files, images, targets, split, and",
        ),
        ({"columns": {"category": "kind"}}, "lacks the column 'kind'"),
    ],
)
def test_settings_that_will_not_do(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_rows(tmp_path)
    with pytest.raises(InputError, match=message):
        table(tmp_path, **settings).evaluation_splits()


def test_a_folder_without_tables_and_tables_without_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains no \.parquet or \.arrow file of rows"):
        table(tmp_path).training_triplets()
    write_parquet(tmp_path / "t.parquet", dict.fromkeys(("reference", "target", "text"), pa.array([], pa.string())))
    with pytest.raises(InputError, match="the tables have no rows; name other files"):
        table(tmp_path).training_triplets()


def test_images_of_one_id_that_differ(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    cells = image_cells(tmp_path, 2)
    write_parquet(tmp_path / "corpus/test-00000-of-00001.parquet", {"id": ["c0", "c0"], "image": cells})
    settings = {"files": "query/*", "images": "corpus/*", "columns": {"reference": "image", "target": "id"}}
    with pytest.raises(InputError, match=r"corpus/.*/1/image: another image also has the id 'c0'"):
        table(tmp_path, **settings).evaluation_splits()


@pytest.mark.parametrize(("score", "told"), [(None, "None"), (float("nan"), "nan")])
def test_a_relevance_that_is_no_number(tmp_path: Path, score: Any, told: str) -> None:
    settings = write_benchmark(tmp_path)
    write_relevance(tmp_path, ["c1", "c2", "c3"], [1.0, score, 2.0])
    with pytest.raises(InputError, match=rf"qrels/.*parquet: row 1: score is {told}, expected a number"):
        table(tmp_path, **settings).evaluation_splits()


def test_relevance_in_words(tmp_path: Path) -> None:
    settings = write_benchmark(tmp_path)
    write_relevance(tmp_path, ["c1", "c2", "c3"], ["1", "good", "2"])
    with pytest.raises(InputError, match="row 1: score is 'good', expected a number"):
        table(tmp_path, **settings).evaluation_splits()


@pytest.mark.parametrize("name", [None, ""])
def test_an_image_without_a_name(tmp_path: Path, name: str | None) -> None:
    settings = write_benchmark(tmp_path)
    columns = {"id": ["c1", name], "image": pa.array(image_cells(tmp_path, 2), IMAGE_CELL)}
    write_parquet(tmp_path / "corpus/test-00000-of-00001.parquet", columns)
    with pytest.raises(InputError, match=r"parquet: row 1: the column 'id' is empty; write the name"):
        table(tmp_path, **settings).evaluation_splits()


def test_a_column_that_occurs_twice(tmp_path: Path) -> None:
    cells = pa.array(image_cells(tmp_path, 2), IMAGE_CELL)
    columns = pa.table([cells, cells, cells, pa.array(["a", "b"])], names=["reference", "target", "reference", "text"])
    pq.write_table(columns, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: has the column 'reference' twice"):
        table(tmp_path).evaluation_splits()


@pytest.mark.parametrize("key", ["category", "split"])
def test_an_optional_column_that_occurs_twice(tmp_path: Path, key: str) -> None:
    cells, words = pa.array(image_cells(tmp_path, 2), IMAGE_CELL), pa.array(["val", "train"])
    names = ["reference", "target", "text", key, key]
    pq.write_table(pa.table([cells, cells[::-1], words, words, words], names=names), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=rf"t\.parquet: has the column '{key}' twice"):
        table(tmp_path).evaluation_splits()


def test_a_target_that_is_not_in_the_table_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = image_cells(tmp_path, 4)
    write_parquet(tmp_path / "corpus/t.parquet", {"id": ["c0", "c1"], "image": cells[:2]})
    rows = {"reference": cells[:2], "target": [cells[1], cells[3]], "text": ["a", "b"]}
    write_parquet(tmp_path / "rows/test.parquet", rows)
    with pytest.raises(InputError, match=r"target '3\.png' is not in the gallery; add it to the table of images"):
        table(tmp_path, images="corpus/*").evaluation_splits()
    (test,) = table(tmp_path, "skip", images="corpus/*").evaluation_splits()
    assert ([t.target_name for t in test.triplets], test.left_out) == (["c1"], 1)
    assert "left out 1 of 2 queries whose target is not in the gallery" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["query-id", "corpus-id"])
def test_a_relevance_without_an_id(tmp_path: Path, key: str) -> None:
    settings = write_benchmark(tmp_path)
    columns: dict[str, list[Any]] = {"query-id": ["q0", "q1"], "corpus-id": ["c1", "c2"]}
    write_parquet(tmp_path / "qrels/test-00000-of-00001.parquet", columns | {key: [columns[key][0], None]})
    with pytest.raises(InputError, match=rf"qrels/.*: row 1: the column '{key}' is empty"):
        table(tmp_path, **settings).evaluation_splits()


def test_a_message_does_not_print_an_image(tmp_path: Path) -> None:
    write_rows(tmp_path, text=image_cells(tmp_path, 2))
    with pytest.raises(InputError, match="row 0: text is ") as raised:
        table(tmp_path).evaluation_splits()
    assert len(str(raised.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_names_that_are_not_utf_8_are_refused(suffix, tmp_path):
    cells = pa.StructArray.from_arrays([pa.array([b"1"])], fields=[pa.field(b"caf\xe9", pa.binary())])
    table, file = pa.table([cells], names=["reference"]), tmp_path / f"t{suffix}"
    if suffix == ".arrow":
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, file)
    with pytest.raises(InputError, match=rf"t\{suffix}: cannot be read as {suffix[1:]} \('utf-8' codec can't decode"):
        open_rows(file)
