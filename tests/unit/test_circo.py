"""CIRCO's layout: queries, scores and submission on a tiny folder in the published form."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.comparison.compare import compare_runs
from spn4cir.comparison.runs import read_runs
from spn4cir.composers.encoding import EncodedGallery
from spn4cir.config.params import Validate
from spn4cir.datasets import has_test_queries, open_benchmark, open_layout, submittable
from spn4cir.datasets.circo import Circo
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import Evaluation, encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.evaluation.query_table import queries_entry, write_queries
from spn4cir.evaluation.stored_gallery import union_gallery
from spn4cir.evaluation.submission import check_submission, predict, submission_problems, write_submission
from spn4cir.evaluation.validate import validate_both
from spn4cir.json_files import write_json
from spn4cir.projects.check import check_data
from tests.conftest import CPU
from tests.helpers.benchmarks import ASPECTS, FIRST_ID, write_circo
from tests.helpers.layouts import change, write
from tests.helpers.stub import StubComposer

PROTOCOL = Validate(remove_reference=False, capitalise=False, batch_size=16, sheet_queries=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_circo(tmp_path_factory.mktemp("circo"))


def scored(layout: Circo, meaning: dict[str, Tensor] | None = None) -> tuple[Evaluation, dict[str, Any]]:
    stub = StubComposer(meaning)
    splits = layout.evaluation_splits()
    found = evaluate(stub, layout, splits, encode_splits(stub, splits, PROTOCOL, 0, CPU), PROTOCOL, CPU)
    return found, metrics_file(found, layout, PROTOCOL, stub)


def official(folder: Path, predictions: dict[int, list[int]]) -> dict[str, float]:
    """What the published evaluation does of lists of 50, in plain Python."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in json.loads((folder / "annotations" / "val.json").read_text()):
        listed, targets = predictions[record["id"]], record["gt_img_ids"]
        precision = [sum(x in targets for x in listed[: i + 1]) / (i + 1) for i in range(50) if listed[i] in targets]
        places = [i for i in range(50) if listed[i] in targets]
        for k in (5, 10, 25, 50):
            value = sum(p for p, i in zip(precision, places, strict=True) if i < k) / min(len(targets), k)
            found[f"map_at{k}"].append(value)
            found[f"recall_at{k}"].append(float(record["target_img_id"] in listed[:k]))
            for aspect in record["semantic_aspects"] if k == 10 else ():
                found[aspect].append(value)
    return {name: 100 * sum(values) / len(values) for name, values in found.items()}


def test_queries_and_gallery(root: Path) -> None:
    (split,) = Circo(root, "error").evaluation_splits()
    first, _, third, *_ = split.triplets
    assert (split.name, len(split.triplets), len(split.gallery)) == ("val", 6, 60)
    assert (first.reference_name, first.target_names, first.query_id) == ("7", ("14",), 0)
    assert third.target_names == ("28", "35", "42")
    assert (third.captions, third.aspects) == (("has 2 more",), ("cardinality", "addition"))
    assert split.gallery.paths[split.gallery.index["28"]].name == "000000000028.jpg"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{relative_caption}", "has 2 more"),
        ("find {shared_concept} but {relative_caption}", "find a dog number 2 but has 2 more"),
    ],
)
def test_the_text_is_a_setting_that_the_protocol_tells(root: Path, template: str, text: str) -> None:
    layout = open_benchmark("circo", root, "error", {"query_text": template})
    assert isinstance(layout, Circo)
    evaluation, content = scored(layout)
    assert evaluation.splits[0].texts[2] == text
    assert content["protocol"]["captions"] == template
    assert content["protocol"]["reference"] == "kept in the ranking"


@pytest.mark.parametrize(
    "template", ["{caption}", "{}", "{relative_caption", "a photo", "{relative_caption.x}", "", "{{relative_caption}}"]
)
def test_a_template_of_other_fields(root: Path, template: str) -> None:
    with pytest.raises(InputError, match=r"is not valid: expected some of the fields \{relative_caption\}"):
        Circo(root, "error", template).evaluation_splits()


def test_scores_are_those_of_the_official_evaluation(root: Path) -> None:
    """Each text pulls the query towards another image; the official figures are made of the top 50 alone."""
    meaning = {
        f"has {i} more": F.normalize(torch.randn(12, generator=torch.Generator().manual_seed(i)), dim=0)
        for i in range(6)
    }
    evaluation, content = scored(Circo(root, "error"), meaning)
    (ranked,) = evaluation.splits
    lists = {t.query_id: [int(name) for name in ranked.top_names(i)[:50]] for i, t in enumerate(ranked.split.triplets)}
    expected = official(root, lists)
    for key in (
        "map_at5",
        "map_at10",
        "map_at25",
        "map_at50",
        "recall_at5",
        "recall_at10",
        "recall_at25",
        "recall_at50",
    ):
        assert content[key] == pytest.approx(expected[key]), key
    assert list(content["aspects"]) == sorted(ASPECTS)
    assert [content["aspects"][aspect]["map_at10"] for aspect in ASPECTS] == pytest.approx(
        [expected[a] for a in ASPECTS]
    )
    assert {content["aspects"][aspect]["queries"] for aspect in ASPECTS} == {4}
    assert 0 < content["map_at50"] < 100


def test_runs_are_compared_by_their_precision(root: Path, tmp_path: Path) -> None:
    layout, runs = Circo(root, "error"), []
    for name, meaning in (("a", None), ("b", {f"has {i} more": torch.full((12,), float(i)) for i in range(6)})):
        evaluation, content = scored(layout, meaning)
        table = tmp_path / f"{name}.parquet"
        write_queries(layout, evaluation.splits, table)
        path = tmp_path / "circo" / f"{name}.json"
        write_json(path, content | queries_entry(table, path))
        runs.append(next(iter(read_runs(str(path)).values())))
    assert [len(row) for row in pq.read_table(tmp_path / "a.parquet")["target_ranks"].to_pylist()] == [1, 2, 3] * 2
    found = compare_runs(*runs).scores["map_at10"]
    assert found.difference == pytest.approx(runs[1].scores["map_at10"] - runs[0].scores["map_at10"])
    assert found.low <= found.difference <= found.high
    assert found.low < found.high
    assert 0 < (found.won or 0) + (found.lost or 0) <= 6


def test_the_gallery_is_ranked_without_a_copy(root: Path) -> None:
    (split,) = Circo(root, "error").evaluation_splits()
    gallery = union_gallery([split])
    images = EncodedGallery(gallery, torch.zeros(len(gallery), 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert images.targets(tuple(sorted(gallery.names))) is images.target
    assert images.targets(gallery.names[::-1]) is not images.target


def remove(name: str) -> Any:
    return lambda records: records[2].pop(name) and None


def put(name: str, value: Any) -> Any:
    return lambda records: records[2].update({name: value})


FAULTS = [
    (remove("gt_img_ids"), "triplet 2 lacks the field 'gt_img_ids'"),
    (put("gt_img_ids", []), r"gt_img_ids is \[\], expected different ids, 28 first"),
    (put("gt_img_ids", [35, 28]), r"gt_img_ids is \[35, 28\], expected different ids, 28 first"),
    (put("gt_img_ids", [28, 35, 35]), "expected different ids"),
    (put("gt_img_ids", ["28"]), r"field 'gt_img_ids' is \['28'\], expected a list of int"),
    (put("gt_img_ids", [28, 5]), "target '5' has no image on disk or no entry"),
    (put("gt_img_ids", [28, 21]), "query 2 has its reference '21' as its target"),
    (remove("target_img_id"), "lacks the field 'target_img_id'"),
    (put("reference_img_id", "21"), "field 'reference_img_id' is '21', expected a int"),
    (put("reference_img_id", True), "field 'reference_img_id' is True, expected an int"),
    (put("reference_img_id", 5), "reference '5' has no image on disk or no entry"),
    (put("relative_caption", None), "triplet 2: field 'relative_caption' is None, expected text"),
    (remove("shared_concept"), "triplet 2 lacks the field 'shared_concept'"),
    (put("semantic_aspects", ["addition", 3]), "expected a list of str"),
    (put("id", 0), "query id 0 occurs twice"),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS)
def test_annotations_that_will_not_do(tmp_path: Path, edit: Any, message: str) -> None:
    change(write_circo(tmp_path) / "annotations" / "val.json", edit)
    with pytest.raises(InputError, match=message):
        Circo(tmp_path, "error").evaluation_splits()


@pytest.mark.parametrize("listing", [[], {"images": [{"id": "7", "file_name": "7.jpg"}]}, {"images": {}}])
def test_a_list_of_images_that_will_not_do(tmp_path: Path, listing: Any) -> None:
    write(write_circo(tmp_path) / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json", listing)
    with pytest.raises(InputError, match="expected a JSON list of images, each with id and file_name"):
        Circo(tmp_path, "error").evaluation_splits()


def test_a_query_that_lacks_one_of_its_targets_is_left_out(tmp_path: Path) -> None:
    folder = write_circo(tmp_path) / "COCO2017_unlabeled" / "unlabeled2017"
    (folder / f"{6 * FIRST_ID:012d}.jpg").unlink()
    with pytest.raises(InputError, match="1 of 60 images are not on disk"):
        Circo(tmp_path, "error").evaluation_splits()
    (split,) = Circo(tmp_path, "skip").evaluation_splits()
    assert [triplet.query_id for triplet in split.triplets] == [0, 1, 3]
    assert (split.left_out, split.missing, len(split.gallery)) == (3, 1, 59)
    check = check_data(Circo(tmp_path, "skip"), 0)
    assert [fault.name for fault in check.missing] == ["42"]
    assert [(cost.split, cost.triplets_lost) for cost in check.costs] == [("val", 3), ("test", 0)]
    assert check.totals["val images"] == (60, 123_403)


def test_it_is_not_trained_on(root: Path) -> None:
    with pytest.raises(InputError, match="layout circo has no training split: it is only scored"):
        open_layout("circo", root, "error")


def test_the_submission_is_of_integers_and_passes_its_check(root: Path, tmp_path: Path) -> None:
    layout = Circo(root, "error")
    served = submittable("circo", layout)
    queries, names = served.test_queries()
    found = predict(StubComposer(), served.test_split(), layout.submission, PROTOCOL, 0, CPU)
    (path,) = write_submission(found, layout.submission, tmp_path, "mine", queries, names)
    content = json.loads(path.read_text())
    assert path.name == "submission_test_mine.json"
    assert list(content) == ["0", "1", "2", "3"]
    assert all(len(set(ids)) == 50 and {type(i) for i in ids} == {int} for ids in content.values())
    assert content["0"][0] == FIRST_ID, "the reference is kept, and most like itself"
    assert check_submission(path, layout.submission, queries, names, layout.other_queries()) == (
        layout.submission[0],
        "test",
        len(queries),
    )


@pytest.mark.parametrize(("split", "count"), [("test", 4), ("val", 6)])
def test_a_file_is_of_the_split_whose_queries_it_answers(root: Path, tmp_path: Path, split: str, count: int) -> None:
    """The authors publish an example of either; a fault of val's is named like one of test's."""
    layout = Circo(root, "error")
    queries, names = layout.test_queries()
    content = {str(number): sorted(map(int, names))[:50] for number in range(count)}
    path = write(tmp_path / "a.json", content)
    assert check_submission(path, layout.submission, queries, names, layout.other_queries())[1:] == (split, count)
    content["1"].pop()
    write(path, content)
    with pytest.raises(InputError, match="query 1: 49 names, expected 50"):
        check_submission(path, layout.submission, queries, names, layout.other_queries())


def test_a_fault_of_an_answer_to_val_says_that_the_server_scores_test(root: Path, tmp_path: Path) -> None:
    layout = Circo(root, "error")
    queries, names = layout.test_queries()
    content = {str(number): sorted(map(int, names))[:50] for number in range(6)}
    content["1"][0] = 5
    path = write(tmp_path / "a.json", content)
    with pytest.raises(InputError) as raised:
        check_submission(path, layout.submission, queries, names, layout.other_queries())
    assert str(raised.value).startswith(
        f"{path}: answers the queries of val, and the server scores test; query 1: '5' is not a val image; "
    )


def test_validation_answers_the_test_queries_of_the_same_gallery(root: Path) -> None:
    """What `predict` says of it, with no image encoded again."""
    layout, after = Circo(root, "error"), StubComposer()
    found = validate_both(after, StubComposer(), layout, PROTOCOL, 0, CPU, served=layout)
    assert after.encoded == 60
    assert found.submission == predict(StubComposer(), layout.test_split(), layout.submission, PROTOCOL, 0, CPU)


def test_without_its_test_queries_nothing_is_submitted(tmp_path: Path) -> None:
    assert has_test_queries(Circo(write_circo(tmp_path), "error"))
    (tmp_path / "annotations" / "test.json").unlink()
    assert not has_test_queries(Circo(tmp_path, "error"))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c.pop("2"), "1 query ids are missing, the first is 2"),
        (lambda c: c.update({"99": c["0"]}), "1 query ids are not in test, the first is 99"),
        (lambda c: c.update({"1": c["1"][:49]}), "query 1: 49 names, expected 50"),
        (
            lambda c: c.update({"1": [str(i) for i in c["1"]]}),
            "query 1: expected a list of integers, the ids of images",
        ),
        (lambda c: c.update({"1": [True, *c["1"][1:]]}), "query 1: expected a list of integers"),
        (lambda c: c.update({"1": [c["1"][1], *c["1"][1:]]}), "query 1: a name occurs twice"),
        (lambda c: c.update({"1": [5, *c["1"][1:]]}), "query 1: '5' is not a test image"),
    ],
)
def test_every_fault_of_a_submission_is_found(root: Path, edit: Any, problem: str) -> None:
    layout = Circo(root, "error")
    queries, names = layout.test_queries()
    content: dict[str, Any] = {str(query.query_id): [int(name) for name in names[:50]] for query in queries}
    assert submission_problems(content, layout.submission, queries, names) == []
    edit(content)
    (found,) = submission_problems(content, layout.submission, queries, names)
    assert problem in found


def test_an_image_id_with_two_files(tmp_path: Path) -> None:
    """The same record twice is one image."""
    root = write_circo(tmp_path, images=10)
    listing = root / "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
    change(listing, lambda found: found["images"].append(dict(found["images"][0])))
    assert len(Circo(root, "error").evaluation_splits()[0].gallery) == 10
    change(listing, lambda found: found["images"].append({"id": FIRST_ID, "file_name": f"{2 * FIRST_ID:012d}.jpg"}))
    with pytest.raises(InputError, match=r"image id 7 has two files, the second is 000000000014\.jpg"):
        Circo(root, "error").evaluation_splits()
