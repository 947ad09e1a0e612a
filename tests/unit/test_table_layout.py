"""The layout `table`: images inside the rows of parquet and arrow files, by name, or in a table of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.config.params import Dataset, Validate
from spn4cir.config.training import BankSettings
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.images.preprocess import ImageFiles
from spn4cir.images.reading import read_bytes
from spn4cir.json_files import read_json, write_json
from spn4cir.positives.dedup import deduplicate
from spn4cir.projects.check import check_data
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.batches import ImageSource
from spn4cir.training.epoch_plan import triplet_rows
from spn4cir.training.trainer import Trainer
from spn4cir.types import EvaluationSplit, Gallery
from tests.conftest import CPU
from tests.helpers.layouts import IMAGE_CELL, draw, image_cells, write_parquet, write_table
from tests.helpers.stub import StubComposer, optimisation
from tests.helpers.tables import COLUMNS, table, write_benchmark, write_relevance, write_rows


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("published"))


def test_rows_with_images_inside(published: Path) -> None:
    """Images are named by the paths beside the bytes; the file's name states the split."""
    layout = table(published, columns=COLUMNS)
    training = layout.training_triplets()
    assert [(t.reference_name, t.target_name) for t in training[:2]] == [("0.png", "1.png"), ("1.png", "2.png")]
    assert training[0].captions == ("is redder, and larger",)
    assert layout.training_gallery().names == tuple(f"{number}.png" for number in range(31))
    (val,) = layout.evaluation_splits()
    assert [t.reference_name for t in val.triplets] == [f"{number}.png" for number in range(30, 40)]
    assert set(val.gallery.names) == {f"{number}.png" for number in (*range(30, 40), 0)}
    assert layout.protocol.gallery == "the images that the rows of the split name"
    place = published / "data/train-00000-of-00001.parquet"
    assert layout.image_path("5.png") in (place / "5/reference_image", place / "4/target_image")


def test_an_image_is_encoded_once_however_many_rows_contain_it(published: Path, protocol: Validate) -> None:
    layout, stub = table(published, columns=COLUMNS), StubComposer()
    splits = layout.evaluation_splits()
    images: EncodedGallery = encode_splits(stub, splits, protocol, 0, CPU)
    assert stub.encoded == 11
    content = metrics_file(evaluate(stub, layout, splits, images, protocol, CPU), layout, protocol, stub)
    assert content["counts"]["gallery"] == {"val": 11}
    assert layout.protocol.selection in content


def test_images_without_paths_are_named_by_their_bytes(tmp_path: Path) -> None:
    """Images with ambiguous paths are too; equal bytes are one image in any column."""
    cells = image_cells(tmp_path, 4)
    for label in (None, "image.png"):
        own = [cell | {"path": label} for cell in cells]
        columns = {"reference": own[:3], "target": own[1:], "text": ["a", "b", "c"], "split": ["train", "train", "dev"]}
        write_parquet(tmp_path / "t.parquet", columns)
        layout = table(tmp_path)
        names = layout.training_gallery().names
        assert [len(name) for name in names] == [32] * 3
        (val,) = layout.evaluation_splits()
        assert val.triplets[0].reference_name == names[2]
        for name, cell in zip(names, cells, strict=False):
            assert read_bytes(layout.image_path(name)) == cell["bytes"]


def test_columns_of_plain_bytes(tmp_path: Path) -> None:
    own = [cell["bytes"] for cell in image_cells(tmp_path, 3)]
    write_parquet(tmp_path / "t.parquet", {"reference": own[:2], "target": own[1:], "text": ["a", "b"]})
    layout = table(tmp_path)
    held = layout.evaluation_splits()[0].triplets
    assert len(held) + len(layout.training_triplets()) == 2
    assert {read_bytes(layout.image_path(t.reference_name)) for t in held} < set(own)


def test_names_of_files_in_the_folder(tmp_path: Path) -> None:
    """A table of paths, as a string or as a struct without bytes."""
    for number in range(3):
        draw(tmp_path / f"shop/{number}.png", number)
    names = [f"shop/{number}.png" for number in range(3)]
    structs = [{"bytes": None, "path": name} for name in names]
    for own in (names, structs):
        write_parquet(tmp_path / "t.parquet", {"reference": own[:2], "target": own[1:], "text": ["a", "b"]})
        layout = table(tmp_path)
        gallery = layout.training_gallery()
        assert set(gallery.names) <= set(names)
        assert gallery.paths == tuple(tmp_path / name for name in gallery.names)
    assert check_data(layout, 0).is_whole


def test_queries_a_corpus_and_their_relevance(tmp_path: Path, protocol: Validate) -> None:
    """A query that starts from an image of the corpus is known by its bytes; another one's is no candidate."""
    layout = table(tmp_path, **write_benchmark(tmp_path))
    (test,) = layout.evaluation_splits()
    assert (test.name, test.gallery.names) == ("val", ("c0", "c1", "c2", "c3", "c4"))
    first, second = test.triplets
    assert (first.reference_name, first.target_names) == ("c0", ("c1",))
    assert (second.reference_name, second.target_names) == ("5.png", ("c3", "c2"))
    assert test.outside.names == ("5.png",)
    stub = StubComposer()
    images = encode_splits(stub, [test], protocol, 0, CPU)
    assert stub.encoded == 6
    found = evaluate(stub, layout, [test], images, protocol, CPU)
    assert found.splits[0].names == test.gallery.names
    assert "recall_at1" in found.scores
    assert layout.protocol.gallery == "all named images"


def test_names_that_a_table_of_images_resolves(tmp_path: Path) -> None:
    """Rows of names, groups and categories beside a table of images; arrow files do as well."""
    cells = image_cells(tmp_path, 6)
    ids = [f"p{number}" for number in range(6)]
    with pa.ipc.new_stream(
        tmp_path / "images.arrow", pa.schema([("id", pa.string()), ("image", IMAGE_CELL)])
    ) as writer:
        writer.write_table(pa.table({"id": ids, "image": pa.array(cells, IMAGE_CELL)}))
    rows = {
        "reference": ids[:4],
        "target": ids[1:5],
        "text": [["is red", "is longer"], ["is blue"], ["a"], ["b"]],
        "split": ["train", "training", "validation", "test"],
        "category": ["dress", "dress", "shirt", "shirt"],
        "group": [ids[:3], ids[:3], ids[2:5], ids[2:5]],
        "query": [7, 8, 9, 10],
    }
    write_parquet(tmp_path / "rows.parquet", rows)
    layout = table(tmp_path, images="images.arrow")
    assert layout.training_triplets()[0].captions == ("is red", "is longer")
    assert {(image.name, image.noun) for image in layout.caption_images("triplets")} == {
        ("p0", "dress"),
        ("p1", "dress"),
        ("p2", "dress"),
    }
    val, test = layout.evaluation_splits()
    assert (val.triplets[0].query_id, val.triplets[0].subset_names) == (9, ("p2", "p3", "p4"))
    assert layout.protocol.subset_ks == (1, 2, 3)
    assert val.gallery.names == test.gallery.names == tuple(ids)


def test_without_a_split_for_validation_a_share_of_the_training_references_is(tmp_path: Path) -> None:
    write_table(tmp_path)
    (tmp_path / "data/validation-00000-of-00001.parquet").unlink()
    layout = table(tmp_path, columns=COLUMNS, held_out=0.3)
    (val,) = layout.evaluation_splits()
    assert 1 <= len(val.triplets) < 20
    held = {t.reference_name for t in val.triplets}
    assert held.isdisjoint(t.reference_name for t in layout.training_triplets())
    assert len(val.triplets) + len(layout.training_triplets()) == 30


def test_what_the_stages_write_is_read_again(published: Path, tmp_path: Path) -> None:
    """Unique images are in cells; generated triplets have the form of the other layouts'."""
    layout = table(published, columns=COLUMNS)
    unique = deduplicate(layout.training_gallery(), 0)
    assert len(unique.gallery) == 31
    record = layout.generated_record(layout.training_triplets()[0], "a red one", "a blue one")
    path = tmp_path / layout.names.triplets_name("clip")
    write_json(path, [record])
    assert read_json(path) == [
        {
            "reference": "0.png",
            "target": "1.png",
            "captions": list(layout.training_triplets()[0].captions),
            "caption1": "a red one",
            "caption2": "a blue one",
        }
    ]
    assert layout.read_generated(path)[0].generated
    assert layout.names.captions_name(5) == "table_it_llava_5.json"


def test_both_stages_learn_from_the_rows(published: Path, tmp_path: Path, bank_settings: BankSettings) -> None:
    """The bank is that of the images written out, and stage 1 decodes them in any order, in processes."""
    layout = table(published, columns=COLUMNS)
    unique = deduplicate(layout.training_gallery(), 2)
    files = [tmp_path / "files" / name for name in unique.gallery.names]
    files[0].parent.mkdir()
    for path, place in zip(files, unique.gallery.paths, strict=True):
        path.write_bytes(read_bytes(place))
    written = replace(unique, gallery=Gallery(unique.gallery.names, tuple(files)))
    targets = []
    for name, own in (("rows", unique), ("as files", written)):
        (tmp_path / f"{name} work").mkdir()
        build_bank(StubComposer(), own, bank_settings, tmp_path / name, tmp_path / f"{name} work", 2, CPU)
        targets.append(open_bank(tmp_path / name, StubComposer(), own, bank_settings).target)
    assert torch.equal(*targets)
    rows = triplet_rows(layout.training_triplets(), unique.row, "x")
    source = ImageSource(rows, optimisation(), 1, 2, CPU, ImageFiles(unique.gallery.paths, StubComposer().preprocess))
    composer = StubComposer()
    Trainer(composer, source, source.settings, 1, lambda c: {"score": 1.0}, "score", tmp_path, CPU).fit()
    assert not torch.equal(composer.image_side.weight, torch.eye(12))


def test_the_settings_reach_the_layout() -> None:
    settings = {"images": "corpus/*", "columns": {"reference": "image"}}
    read = Dataset.model_validate({"layout": "table", "missing": "error", "pool": None, "table": settings})
    assert read.options == {"table": settings}


def test_golden_triplets(published: Path) -> None:
    """Names and texts of a split, as read."""
    splits: tuple[EvaluationSplit, ...] = table(published, columns=COLUMNS).evaluation_splits()
    assert [(t.query_id, t.reference_name, t.target_name) for t in splits[0].triplets][-2:] == [
        (38, "38.png", "39.png"),
        (39, "39.png", "0.png"),
    ]


@pytest.mark.parametrize(("scores", "order"), [(["1", "2"], ("c3", "c2")), ([2.5, 1.0], ("c2", "c3"))])
def test_relevance_may_be_written_as_text(tmp_path: Path, scores: list[Any], order: tuple[str, ...]) -> None:
    settings = write_benchmark(tmp_path)
    write_relevance(tmp_path, ["c1", "c2", "c3"], [scores[0], *scores])
    assert table(tmp_path, **settings).evaluation_splits()[0].triplets[1].target_names == order


def test_an_answer_that_is_stated_twice_is_one(tmp_path: Path) -> None:
    settings = write_benchmark(tmp_path)
    write_relevance(tmp_path, ["c1", "c2", "c2"], [1, 1, 2])
    assert table(tmp_path, **settings).evaluation_splits()[0].triplets[1].target_names == ("c2",)


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        (["7", "12"], [7, 12]),
        ([7.0, 12.0], [7, 12]),
        (["7", "07"], [0, 1]),  # one number for two
        (["7", "b"], [0, 1]),
        (["7", "9" * 20], [0, 1]),  # more than 64 bits
        (["7", "9" * 5000], [0, 1]),  # more than Python reads
        (["7", "\u00b2"], [0, 1]),
    ],
)
def test_ids_of_queries(tmp_path: Path, ids: list[Any], numbers: list[int]) -> None:
    """Numbers as they are, positions else."""
    cells = image_cells(tmp_path, 3)
    columns = {"reference": cells[:2], "target": cells[1:], "text": ["a", "b"], "query": ids}
    write_parquet(tmp_path / "test.parquet", columns)
    (test,) = table(tmp_path).evaluation_splits()
    assert [t.query_id for t in test.triplets] == numbers


def test_ids_that_pandas_made_floats(tmp_path: Path) -> None:
    cells = image_cells(tmp_path, 4)
    write_parquet(tmp_path / "corpus/t.parquet", {"id": [1, 2, 3], "image": cells[:3]})
    write_parquet(tmp_path / "query/test.parquet", {"id": [10, 11], "image": cells[2:], "text": ["a", "b"]})
    write_parquet(tmp_path / "qrels/test.parquet", {"query-id": [10.0, 11.0], "corpus-id": [1.0, 2.0]})
    settings = {"files": "query/*", "images": "corpus/*", "targets": "qrels/*"}
    (test,) = table(tmp_path, **settings, columns={"reference": "image", "query": "id"}).evaluation_splits()
    assert [(t.query_id, t.target_name) for t in test.triplets] == [(10, "1"), (11, "2")]


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.large_string()])
def test_names_in_the_types_of_pandas_and_polars(tmp_path: Path, kind: pa.DataType) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", number)
    names = pa.array([f"{number}.png" for number in range(3)])
    columns = [names[:2].cast(kind), names[1:].cast(kind), pa.array(["a", "b"]), pa.array(["val", "train"]).cast(kind)]
    pq.write_table(pa.table(columns, names=["reference", "target", "text", "split"]), tmp_path / "t.parquet")
    (val,) = table(tmp_path).evaluation_splits()
    assert [(t.reference_name, t.target_name) for t in val.triplets] == [("0.png", "1.png")]


def test_a_category_that_is_a_number_is_no_noun(tmp_path: Path) -> None:
    write_rows(tmp_path, category=[0, 1])
    assert {image.noun for image in table(tmp_path).caption_images("split")} == {"image"}
