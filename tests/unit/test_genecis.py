"""GeneCIS's layout on a tiny folder in the published form, and parts of images as paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from spn4cir.config.params import Validate
from spn4cir.datasets import open_layout, submittable
from spn4cir.datasets.genecis import TASKS, GeneCis
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.evaluation.query_table import write_queries
from spn4cir.evaluation.shortcuts import require_gallery
from spn4cir.images.crops import Crop, split_view
from spn4cir.images.decoding import open_image
from spn4cir.images.reading import is_there
from spn4cir.projects.check import check_data
from tests.conftest import CPU
from tests.helpers.benchmarks import write_genecis
from tests.helpers.layouts import change
from tests.helpers.stub import StubComposer

PROTOCOL = Validate(remove_reference=False, capitalise=False, batch_size=16, sheet_queries=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_genecis(tmp_path_factory.mktemp("genecis"))


def test_queries_and_galleries_of_each_task(root: Path) -> None:
    focus_attribute, _, focus_object, _ = splits = GeneCis(root, "error").evaluation_splits()
    assert [split.name for split in splits] == list(TASKS)
    assert [(len(split.triplets), len(split.gallery)) for split in splits] == [(3, 18)] * 4
    second = focus_object.triplets[1]
    assert (second.reference_name, second.target_name, second.captions) == ("11", "12", ("dog 1",))
    assert second.subset_names == ("12", "13", "14", "15", "16")
    assert focus_object.gallery.paths[focus_object.gallery.index["12"]] == root / "val2017" / "000000000012.jpg"
    crop = focus_attribute.triplets[0]
    assert crop.target_name == "2@5,4,10,8"
    path = focus_attribute.gallery.paths[focus_attribute.gallery.index["2@5,4,10,8"]]
    assert split_view(path) == (root / "VG_100K_all" / "2.jpg", Crop(5, 4, 10, 8, 0.7))


def test_scores_are_of_the_query_and_its_own_gallery(root: Path, tmp_path: Path) -> None:
    """The scores equal those of five images at a time, without other images."""
    layout, stub = GeneCis(root, "error"), StubComposer()
    splits = layout.evaluation_splits()
    images = encode_splits(stub, splits, PROTOCOL, 0, CPU)
    found = evaluate(stub, layout, splits, images, PROTOCOL, CPU)
    content = metrics_file(found, layout, PROTOCOL, stub)
    averages: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for split in splits:
        ranks = []
        for triplet in split.triplets:
            query = stub.compose(images.references(images.rows([triplet.reference_name])), triplet.captions)
            scores = (query @ images.target[images.rows(triplet.subset_names)].T)[0]
            ranks.append(int((scores >= scores[0]).sum()) - 1)
        for k, values in averages.items():
            values.append(100 * sum(rank < k for rank in ranks) / len(ranks))
            assert content[f"{split.name}_recall_subset_at{k}"] == pytest.approx(values[-1])
    for k, values in averages.items():
        assert content[f"average_recall_subset_at{k}"] == pytest.approx(sum(values) / 4)
    assert len([key for key, value in content.items() if isinstance(value, float)]) == 15
    assert content["protocol"]["gallery"] == "each query's own: its target and its distractors"
    write_queries(layout, found.splits, tmp_path / "queries.parquet")


def test_the_condition_may_stand_in_a_template(root: Path) -> None:
    split = GeneCis(root, "error", "the same {condition}").evaluation_splits()[0]
    assert split.triplets[2].captions == ("the same colour 2",)


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((20, 16, 10, 8), (13, 10, 30, 24)),  # 20 - 7 to 13 + 17; 16 - 5.6 to 10.4 + 13.6
        ((2, 1, 10, 20), (0, 0, 17, 30)),  # cut at the left, the top and the bottom
        ((30, 0, 20, 10), (16, 0, 40, 17)),  # cut at the right
    ],
)
def test_a_part_is_grown_cut_and_padded_to_a_square(
    tmp_path: Path, box: tuple[int, ...], place: tuple[int, ...]
) -> None:
    """The pixels are compared; the colours of the image encode their position."""
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.arange(30)[:, None] + 1, np.arange(40) + 1, 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = np.asarray(open_image(Crop(*box, grow=0.7).of(tmp_path / "a.png")))
    left, top, right, bottom = place
    side = max(right - left, bottom - top)
    expected = np.zeros((side, side, 3), dtype=np.uint8)
    x, y = (side - (right - left)) // 2, (side - (bottom - top)) // 2
    expected[y : y + bottom - top, x : x + right - left] = pixels[top:bottom, left:right]
    np.testing.assert_array_equal(found, expected)


def test_a_grey_image_stays_grey(tmp_path: Path) -> None:
    Image.new("L", (20, 10), 90).save(tmp_path / "a.png")
    part = open_image(Crop(0, 0, 20, 10, 0.7).of(tmp_path / "a.png"))
    assert (part.mode, part.size) == ("L", (20, 20))
    assert sorted(set(np.asarray(part).ravel().tolist())) == [0, 90]


def test_a_part_of_nothing_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"cannot be decoded \(the box .* contains no pixel of 20 x 10\)"):
        open_image(Crop(50, 0, 5, 5, 0.7).of(tmp_path / "a.png"))
    missing = Crop(0, 0, 5, 5, 0.7).of(tmp_path / "b.png")
    assert not is_there(missing)
    with pytest.raises(InputError, match="no such image"):
        open_image(missing)


FAULTS = [
    ("focus_object", lambda r: r[1].pop("target") and None, "triplet 1 lacks the field 'target'"),
    ("focus_object", lambda r: r[1].update(gallery=[]), "triplet 1 has an empty gallery"),
    ("focus_object", lambda r: r[1].update(gallery=[12, 13]), "expected a list of dict"),
    (
        "focus_object",
        lambda r: r[1]["target"].update(val_image_id="dog"),
        "field 'val_image_id' is 'dog', expected a int",
    ),
    ("focus_object", lambda r: r[1]["target"].update(val_image_id="9" * 5000), "expected a int"),
    ("change_object", lambda r: r[1]["target"].update(val_image_id=99), "1 of 18 images are not on disk"),
    ("change_object", lambda r: r[1].update(target=r[1]["reference"]), "query 1 has its reference '11' as its target"),
    (
        "focus_attribute",
        lambda r: r[1]["target"].update(instance_bbox=[1, 2, 3]),
        r"instance_bbox is \[1, 2, 3\], expected",
    ),
    (
        "focus_attribute",
        lambda r: r[1]["target"].update(instance_bbox=[1, 2, 3, "4"]),
        "expected left, top, width, height",
    ),
    ("focus_attribute", lambda r: r[1]["target"].update(instance_bbox=[5, 4, 0, 8]), "the last two above 0"),
    ("focus_attribute", lambda r: r[1]["target"].update(instance_bbox=[float("nan"), 4, 1, 8]), "in pixels"),
    ("change_attribute", lambda r: r[1].update(condition=None), "field 'condition' is None, expected text"),
    ("change_attribute", lambda r: r[1].pop("condition") and None, "triplet 1 lacks the field 'condition'"),
]


@pytest.mark.parametrize(("task", "edit", "message"), FAULTS)
def test_annotations_that_will_not_do(tmp_path: Path, task: str, edit: Any, message: str) -> None:
    change(write_genecis(tmp_path) / "genecis" / f"{task}.json", edit)
    with pytest.raises(InputError, match=message):
        GeneCis(tmp_path, "error").evaluation_splits()


def test_a_query_that_lacks_a_distractor_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With fewer distractors the query would be easier. Many crops may be cut from one file."""
    write_genecis(tmp_path)
    (tmp_path / "VG_100K_all" / "15.jpg").unlink()
    (tmp_path / "val2017" / "000000000001.jpg").write_bytes(b"<html>")
    attribute, *_ = GeneCis(tmp_path, "skip").evaluation_splits()
    assert [triplet.query_id for triplet in attribute.triplets] == [0, 2]
    assert (attribute.left_out, attribute.missing) == (1, 1)
    assert "focus_attribute.json: left out 1 of 3 queries" in capsys.readouterr().err
    check = check_data(GeneCis(tmp_path, "skip"), 0)
    assert [fault.name for fault in check.missing] == ["15@5,4,10,8"]
    assert [(fault.name, fault.reason) for fault in check.broken] == [("1", "is a web page, not an image")]
    assert check.unlisted == ()
    assert [cost.triplets_lost for cost in check.costs] == [1, 1, 1, 1]  # those two are a distractor and a reference


def test_images_of_both_published_folders_are_found(tmp_path: Path) -> None:
    write_genecis(tmp_path)
    (tmp_path / "VG_100K_2").mkdir()
    (tmp_path / "VG_100K_all" / "1.jpg").rename(tmp_path / "VG_100K_2" / "1.jpg")
    gallery = GeneCis(tmp_path, "error").evaluation_splits()[0].gallery
    assert split_view(gallery.paths[0])[0] == tmp_path / "VG_100K_2" / "1.jpg"


def test_it_is_neither_trained_on_nor_submitted(root: Path) -> None:
    with pytest.raises(InputError, match="layout genecis has no training split"):
        open_layout("genecis", root, "error")
    with pytest.raises(InputError, match="layout genecis has no submission files; take one of: cirr, circo"):
        submittable("genecis", GeneCis(root, "error"))


def test_a_part_reaches_the_network(root: Path) -> None:
    """The stub's mean colours of the part, of its own crop of the image."""
    stub, split = StubComposer(), GeneCis(root, "error").evaluation_splits()[0]
    images = encode_splits(stub, [split], PROTOCOL, 0, CPU)
    with Image.open(root / "VG_100K_all" / "1.jpg") as image:
        pixels = stub.preprocess(Crop(5, 4, 10, 8, 0.7)(image))
    torch.testing.assert_close(
        images.references(images.rows(["1@5,4,10,8"])), stub.encode_image(pixels[None]).reference
    )


def test_a_query_is_ranked_among_its_own_gallery(root: Path, tmp_path: Path) -> None:
    """Ranks, top names and the sheet's note know no image of another query."""
    layout, stub = GeneCis(root, "error"), StubComposer({f"colour {n}": torch.eye(12)[n] for n in range(3)})
    splits = layout.evaluation_splits()[:2]
    found = evaluate(stub, layout, splits, encode_splits(stub, splits, PROTOCOL, 0, CPU), PROTOCOL, CPU)
    assert all(torch.equal(ranked.ranking.rank, ranked.ranking.subset_rank) for ranked in found.splits)
    write_queries(layout, found.splits, tmp_path / "queries.parquet")
    rows = pq.read_table(tmp_path / "queries.parquet").to_pylist()
    members = [triplet.subset_names for split in splits for triplet in split.triplets]
    assert [sorted(row["top"]) for row in rows] == [sorted(own) for own in members]
    assert [row["top"].index(row["target"]) + 1 for row in rows] == [row["rank"] for row in rows]
    assert [found.splits[0].candidates(query) for query in range(3)] == [len(own) for own in members[:3]]
    assert max(map(len, members)) < len(splits[0].gallery)


def test_ids_that_are_written_as_text(root: Path, tmp_path: Path) -> None:
    """Visual Genome's own files have such ids; the images are the same."""
    write_genecis(tmp_path)
    for task in TASKS:

        def as_text(records: list[dict[str, Any]]) -> None:
            for image in (i for r in records for i in (r["reference"], r["target"], *r["gallery"])):
                image.update({key: str(value) for key, value in image.items() if key.endswith("image_id")})

        change(tmp_path / "genecis" / f"{task}.json", as_text)
    found = GeneCis(tmp_path, "error").evaluation_splits()
    assert [split.triplets for split in found] == [
        split.triplets for split in GeneCis(root, "error").evaluation_splits()
    ]


@pytest.mark.parametrize("removed", [False, True])
def test_a_reference_in_its_own_gallery_is_a_candidate_unless_removed(tmp_path: Path, removed: bool) -> None:
    write_genecis(tmp_path)
    for task in TASKS:
        change(
            tmp_path / "genecis" / f"{task}.json", lambda r: [q["gallery"].append(q["reference"]) for q in r] and None
        )
    layout, stub = GeneCis(tmp_path, "error"), StubComposer()
    protocol = PROTOCOL.model_copy(update={"remove_reference": removed})
    splits = layout.evaluation_splits()
    images = encode_splits(stub, splits, protocol, 0, CPU)
    for ranked in evaluate(stub, layout, splits, images, protocol, CPU).splits:
        for number, triplet in enumerate(ranked.split.triplets):
            sought = [n for n in triplet.subset_names if not (removed and n == triplet.reference_name)]
            query = stub.compose(images.references(images.rows([triplet.reference_name])), triplet.captions)
            scores = (query @ images.target[images.rows(sought)].T)[0]
            assert int(ranked.ranking.rank[number]) == int((scores >= scores[0]).sum()) - 1
            assert sorted(ranked.top_names(number)) == sorted(sought)


def test_shortcuts_are_refused_where_each_query_has_a_gallery_of_its_own(root: Path) -> None:
    with pytest.raises(InputError, match="and here it is each query's own: its target and its distractors; leave out"):
        require_gallery(GeneCis(root, "error"))
