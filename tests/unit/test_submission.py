"""The two files of CIRR's server: their content, and every fault that the check finds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spn4cir.config.params import Validate
from spn4cir.datasets.cirr import Cirr
from spn4cir.errors import InputError
from spn4cir.evaluation.submission import check_submission, predict, submission_problems, write_submission
from spn4cir.types import Triplet
from tests.conftest import CPU
from tests.helpers.layouts import change, write, write_cirr
from tests.helpers.stub import StubComposer

FILES = Cirr.submission
MAX_BYTES = 5_000_000
PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=16, sheet_queries=3)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Cirr:
    return Cirr(write_cirr(tmp_path_factory.mktemp("cirr")), "error")


@pytest.fixture(scope="module")
def predictions(layout: Cirr) -> Any:
    return predict(StubComposer(), layout.test_split(), FILES, PROTOCOL, 0, CPU)


@pytest.mark.parametrize("remove", [True, False])
def test_content(layout: Cirr, remove: bool) -> None:
    """Every pair occurs once, with 50 names of test1 or 3 of the group, best first, without the reference."""
    protocol = PROTOCOL.model_copy(update={"remove_reference": remove})
    split = layout.test_split()
    found = predict(StubComposer(), split, FILES, protocol, 0, CPU)
    for metric, count in (("recall", 50), ("recall_subset", 3)):
        content = found[metric]
        assert list(content)[:2] == ["version", "metric"]
        assert (content["version"], content["metric"]) == ("rc2", metric)
        assert content.keys() - {"version", "metric"} == {str(t.query_id) for t in split.triplets}
        for triplet in split.triplets:
            names = content[str(triplet.query_id)]
            assert len(names) == len(set(names)) == count
            assert triplet.reference_name not in names
            allowed = triplet.subset_names if metric == "recall_subset" else split.gallery.names
            assert set(names) <= set(allowed)
    for triplet in split.triplets:
        order = found["recall"][str(triplet.query_id)]
        group = [name for name in order if name in triplet.subset_names]
        if len(group) >= 3:
            assert group[:3] == found["recall_subset"][str(triplet.query_id)], "both files rank by one score"


def test_written_files_pass_their_check(tmp_path: Path, layout: Cirr, predictions: Any) -> None:
    queries, names = layout.test_queries()
    written = write_submission(predictions, FILES, tmp_path, "x", queries, names)
    assert [check_submission(path, FILES, queries, names).file for path in written] == list(FILES)
    assert [path.name for path in written] == ["recall_submission_x.json", "recall_subset_submission_x.json"]
    assert json.loads(written[0].read_text()) == predictions["recall"]


QUERIES = [
    Triplet("r", ("x",), query_id=7, subset_names=("r", "a", "b", "c", "d", "e")),
    Triplet("a", ("x",), query_id=12, subset_names=("r", "a", "b", "c", "d", "e")),
]
GALLERY = ["r", "a", "b", "c", "d", "e", "f"]


def subset_file() -> dict[str, Any]:
    return {"version": "rc2", "metric": "recall_subset", "7": ["a", "b", "c"], "12": ["r", "b", "c"]}


def test_a_right_file_has_no_problem() -> None:
    assert submission_problems(subset_file(), FILES, QUERIES, GALLERY) == []


Edit = Callable[[dict[str, Any]], Any]
FAULTS: list[tuple[Edit, str]] = [
    (lambda c: c.update(version="rc1"), "version is 'rc1', expected 'rc2'"),
    (lambda c: c.pop("version"), "version is None"),
    (lambda c: c.update(metric="top"), "metric is 'top', expected one of recall, recall_subset"),
    (lambda c: c.update(metric=["recall"]), "metric is ['recall']"),
    (lambda c: c.pop("metric"), "metric is None"),
    (lambda c: c.pop("7"), "1 pair ids are missing, the first is 7"),
    (lambda c: c.update({"99": ["a", "b", "c"]}), "1 pair ids are not in test1, the first is 99"),
    (lambda c: c.update({"7": ["a", "b"]}), "pair 7: 2 names, expected 3"),
    (lambda c: c.update({"7": ["a", "b", "c", "d"]}), "pair 7: 4 names, expected 3"),
    (lambda c: c.update({"7": ["a", "b", "a"]}), "pair 7: a name occurs twice"),
    (lambda c: c.update({"7": ["a", "b", "r"]}), "pair 7: lists its own reference 'r'"),
    (lambda c: c.update({"7": ["a", "b", "zz"]}), "pair 7: 'zz' is not a test1 image"),
    (lambda c: c.update({"7": ["a", "b", "f"]}), "pair 7: 'f' is not in the query's subset"),
    (lambda c: c.update({"7": "abc"}), "pair 7: expected a list of image names"),
    (lambda c: c.update({"7": ["a", "b", 3]}), "pair 7: expected a list of image names"),
    (lambda c: c.update({"7": [["a"], "b", "c"]}), "pair 7: expected a list of image names"),
]


@pytest.mark.parametrize(("edit", "problem"), FAULTS)
def test_every_fault_is_found(tmp_path: Path, edit: Edit, problem: str) -> None:
    content = subset_file()
    edit(content)
    problems = submission_problems(content, FILES, QUERIES, GALLERY)
    assert len(problems) == 1
    assert problem in problems[0]
    path = write(tmp_path / "a.json", content)
    with pytest.raises(InputError) as raised:
        check_submission(path, FILES, QUERIES, GALLERY)
    assert str(raised.value).startswith(f"{path}: ")
    assert problem in str(raised.value)


def test_the_whole_list_need_not_lie_in_the_subset() -> None:
    """A test split of seven images has fewer than 50 names."""
    content = {"version": "rc2", "metric": "recall", "7": ["a", "f"], "12": ["f", "r"]}
    assert submission_problems(content, FILES, QUERIES, GALLERY) == [
        "pair 12: 2 names, expected 50",
        "pair 7: 2 names, expected 50",
    ]


def test_a_pair_that_occurs_twice(tmp_path: Path) -> None:
    """JSON readers silently keep the last of repeated keys."""
    text = json.dumps(subset_file())
    (tmp_path / "a.json").write_text(text[:-1] + ', "7": ["a", "b", "c"]}')
    with pytest.raises(InputError, match="7: occurs twice"):
        check_submission(tmp_path / "a.json", FILES, QUERIES, GALLERY)


@pytest.mark.parametrize(
    ("text", "problem"), [("[1]", "contains a list"), ("{", "is not valid JSON"), (None, "no such file")]
)
def test_what_is_no_submission(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=problem):
        check_submission(tmp_path / "a.json", FILES, QUERIES, GALLERY)


@pytest.mark.parametrize(("size", "fits"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
def test_a_file_beyond_five_megabytes(tmp_path: Path, size: int, fits: bool) -> None:
    text = json.dumps(subset_file())
    (tmp_path / "a.json").write_text(text + " " * (size - len(text)))
    if fits:
        check_submission(tmp_path / "a.json", FILES, QUERIES, GALLERY)
        return
    with pytest.raises(InputError, match="5,000,001 bytes, expected at most 5,000,000"):
        check_submission(tmp_path / "a.json", FILES, QUERIES, GALLERY)


def test_many_faults_are_cut_and_counted(tmp_path: Path) -> None:
    queries = [Triplet("r", ("x",), query_id=n, subset_names=("a", "b", "c")) for n in range(30)]
    content = {"version": "rc2", "metric": "recall_subset", **{str(n): ["a"] for n in range(30)}}
    with pytest.raises(InputError, match=r"\(and 20 more\)"):
        check_submission(write(tmp_path / "a.json", content), FILES, queries, GALLERY)


def test_a_gallery_that_is_too_small_writes_nothing(tmp_path: Path) -> None:
    """A test1 split of 12 images has no lists of 50."""
    layout = Cirr(write_cirr(tmp_path / "cirr", test_groups=2), "error")
    split = layout.test_split()
    found = predict(StubComposer(), split, FILES, PROTOCOL, 0, CPU)
    with pytest.raises(InputError, match=r"not written: pair \d+: 11 names, expected 50"):
        write_submission(found, FILES, tmp_path / "out", "x", split.triplets, split.gallery.names)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_file_that_is_too_large_takes_the_others_with_it(tmp_path: Path, layout: Cirr, predictions: Any) -> None:
    files = (FILES[0], replace(FILES[1], max_bytes=100))
    with pytest.raises(InputError, match=r"recall_subset_submission_x\.json: .* bytes, expected at most 100"):
        write_submission(predictions, files, tmp_path / "out", "x", *layout.test_queries())
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_image_of_a_group_is_not_listed(tmp_path: Path) -> None:
    """With skip, four other images of a group are enough for three names; queries without reference are left out."""
    root = write_cirr(tmp_path)
    (root / "test1" / "test1-0-0-img2.png").unlink()
    split = Cirr(root, "skip").test_split()
    assert (len(split.triplets), split.left_out, split.missing) == (53, 1, 1)
    found = predict(StubComposer(), split, FILES, PROTOCOL, 0, CPU)
    for triplet in split.triplets[:5]:
        names = found["recall_subset"][str(triplet.query_id)]
        assert len(names) == 3
        assert "test1-0-0-img2" not in names


def test_a_second_entry_of_a_pair_in_test1_is_an_error(tmp_path: Path) -> None:
    root = write_cirr(tmp_path)
    path = root / "cirr/captions/cap.rc2.test1.json"
    change(path, lambda records: [*records, records[0]])
    for read in (Cirr(root, "error").test_queries, Cirr(root, "skip").test_split):
        with pytest.raises(InputError, match="occurs twice"):
            read()


def test_queries_that_were_left_out_are_missed(tmp_path: Path) -> None:
    """The server accepts only files with all queries of test1."""
    root = write_cirr(tmp_path / "cirr")
    (root / "test1" / "test1-0-0-img2.png").unlink()
    layout = Cirr(root, "skip")
    found = predict(StubComposer(), layout.test_split(), FILES, PROTOCOL, 0, CPU)
    with pytest.raises(InputError, match="not written: 1 pair ids are missing, the first is 26"):
        write_submission(found, FILES, tmp_path / "out", "x", *layout.test_queries())
    assert not (tmp_path / "out").exists()
