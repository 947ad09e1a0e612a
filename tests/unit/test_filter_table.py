"""Which texts and triplets a filter keeps, and the files that record it."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.config.positives import Filter
from spn4cir.errors import InputError
from spn4cir.json_files import read_json
from spn4cir.positives.filter_table import (
    SHORTCUT,
    WRONG,
    FilteredText,
    count,
    filter_generated,
    judge_texts,
    read_filter,
    write_filter,
)
from spn4cir.types import Triplet

OFF = Filter(target_within=None, text_within=None)
BOTH = Filter(target_within=50, text_within=5)
ANNOTATED = (Triplet("a", ("is red", "is long"), "b"), Triplet("b", ("is blue",), "c"))
GENERATED = (
    Triplet("a", ("one", "two"), "b", generated=True),
    Triplet("b", ("three", "four"), "c", generated=True),
    Triplet("c", ("five", "six"), "d", generated=True),
    Triplet("d", ("seven",), "a", generated=True),
)
# By the settings BOTH: the second text; none, a shortcut and a wrong one; none, two wrong ones; all.
RANKS = [(51, 90), (50, 6), (1, 5), (51, 1), (60, 70), (70, 80), (1, 6)]


def judged(rank: int, text_rank: int, settings: Filter) -> str | None:
    (text,) = judge_texts(GENERATED[3:], [(rank, text_rank)], settings)
    assert text.kept == (text.reason is None)
    return text.reason


@pytest.mark.parametrize(
    ("rank", "text_rank", "reason"),
    [(50, 6, None), (51, 6, WRONG), (50, 5, SHORTCUT), (51, 5, WRONG), (1, 1, SHORTCUT)],
)
def test_the_ranks_of_the_conditions_are_included(rank: int, text_rank: int, reason: str | None) -> None:
    """The 50th image is within 50, and the 5th within 5. What is wrong is no shortcut."""
    assert judged(rank, text_rank, BOTH) == reason


def test_null_switches_a_condition_off() -> None:
    assert judged(51, 1, Filter(target_within=50, text_within=None)) == WRONG
    assert judged(50, 1, Filter(target_within=50, text_within=None)) is None
    assert judged(51, 1, Filter(target_within=None, text_within=5)) == SHORTCUT
    assert judged(51, 6, Filter(target_within=None, text_within=5)) is None
    assert [OFF.enabled, BOTH.enabled, Filter(target_within=None, text_within=5).enabled] == [False, True, True]


def test_a_triplet_keeps_the_texts_that_pass(tmp_path: Path) -> None:
    """It is removed if none passes: as a shortcut if one of its texts is one."""
    texts = judge_texts(GENERATED, RANKS, BOTH)
    assert [text.reason for text in texts] == [WRONG, None, SHORTCUT, WRONG, WRONG, WRONG, None]
    assert count(texts) == {"triplets": 4, "kept": 2, "wrong": 1, "shortcut": 1, "texts": 7, "kept_texts": 2}
    write_filter(tmp_path / "filter", BOTH, texts)
    kept = filter_generated((*ANNOTATED, *GENERATED), tmp_path / "filter")
    assert kept == (*ANNOTATED, Triplet("a", ("two",), "b", generated=True), GENERATED[3])


def test_the_files_contain_the_settings_the_counts_and_every_text(tmp_path: Path) -> None:
    texts = judge_texts(GENERATED, RANKS, BOTH)
    write_filter(tmp_path / "filter", BOTH, texts)
    found = read_filter(tmp_path / "filter")
    assert found is not None
    assert tuple(found.texts()) == texts
    assert found.counts == {"target_within": 50, "text_within": 5} | count(texts)
    assert found.removed(SHORTCUT) == [texts[2:4]]
    assert found.removed(WRONG) == [texts[4:6]]
    table = pq.read_table(tmp_path / "filter" / "texts.parquet")
    assert table.schema.names == list(FilteredText._fields)
    assert table.slice(1, 1).to_pylist() == [
        {
            "triplet": 0,
            "reference": "a",
            "target": "b",
            "number": 1,
            "text": "two",
            "rank": 50,
            "text_rank": 6,
            "kept": True,
            "reason": None,
        }
    ]


def test_a_filter_that_is_off_changes_nothing(tmp_path: Path) -> None:
    write_filter(tmp_path / "filter", OFF)
    assert [path.name for path in (tmp_path / "filter").iterdir()] == ["counts.json"]
    assert read_json(tmp_path / "filter" / "counts.json") == {"target_within": None, "text_within": None}
    triplets = (*ANNOTATED, *GENERATED)
    assert filter_generated(triplets, tmp_path / "filter") is triplets


def test_annotated_triplets_need_no_filter(tmp_path: Path) -> None:
    assert filter_generated(ANNOTATED, tmp_path / "none") is ANNOTATED


def test_a_filter_of_other_triplets_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "filter"
    write_filter(folder, BOTH, judge_texts(GENERATED, RANKS, BOTH))
    with pytest.raises(InputError, match="was computed from other generated triplets; run the filter stage again"):
        filter_generated((*ANNOTATED, *GENERATED[1:]), folder)
    more = Triplet("more", ("is red",), "b", generated=True)
    for other in ((*ANNOTATED, *GENERATED[:-1]), (*GENERATED, more)):
        with pytest.raises(InputError, match="was computed from other generated triplets"):
            filter_generated(other, folder)
    first, second, *rest = GENERATED
    for change in (
        {"captions": ("is another", *first.captions[1:])},
        {"reference_name": "another"},
        {"target_name": "another"},
        {"captions": first.captions[:-1]},
    ):
        with pytest.raises(InputError, match="was computed from other generated triplets"):
            filter_generated((*ANNOTATED, replace(first, **change), second, *rest), folder)
    with pytest.raises(InputError, match="was computed from other generated triplets"):
        filter_generated((*ANNOTATED, second, first, *rest), folder)
    apart = [replace(GENERATED[0], captions=(text,)) for text in GENERATED[0].captions]
    with pytest.raises(InputError, match="was computed from other generated triplets"):
        filter_generated((*apart, *GENERATED[1:]), folder)
    pq.write_table(pa.table({"triplet": [0]}), folder / "texts.parquet")
    with pytest.raises(InputError, match=r"texts\.parquet: is not a table of filtered triplets"):
        filter_generated(GENERATED, folder)
    (folder / "texts.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"texts\.parquet: is not a table of filtered triplets"):
        filter_generated(GENERATED, folder)
    (folder / "texts.parquet").unlink()
    with pytest.raises(InputError, match=r"texts\.parquet: is not a table of filtered triplets"):
        filter_generated(GENERATED, folder)
    (folder / "counts.json").write_text("[]")
    with pytest.raises(InputError, match=r"counts\.json: is not a file of the filter's counts"):
        filter_generated(GENERATED, folder)
    (folder / "counts.json").unlink()
    with pytest.raises(InputError, match=r"counts\.json: no such file"):
        filter_generated(GENERATED, folder)
