"""Proposals of references, visits and their queries, without a page."""

import asyncio
from dataclasses import replace

import pytest

from spn4cir.serving.annotations import AnnotationFile
from spn4cir.serving.annotator import Annotator, Progress, Visit, report_absent, skip

NAMES = ("c.png", "a.png", "d.png", "b.png")
EMPTY = Progress(0, "val", frozenset())


@pytest.fixture
def annotator(tmp_path) -> Annotator:
    return Annotator(AnnotationFile(tmp_path / "queries.csv"), NAMES, goal=2)


def test_references_follow_the_order_without_those_that_are_passed_annotated_or_shown(annotator):
    visit = annotator.propose(Visit(), EMPTY, "me")
    assert visit.reference == "c.png"
    assert annotator.propose(skip(visit), EMPTY, "me").reference == "a.png"
    assert annotator.propose(visit, replace(EMPTY, references=frozenset({"c.png", "a.png"})), "me").reference == "d.png"
    annotator.show("other", "c.png")
    assert annotator.propose(Visit(), EMPTY, "me").reference == "a.png"
    assert annotator.propose(Visit(), EMPTY, "other").reference == "c.png"
    annotator.show("other", None)
    assert annotator.propose(Visit(), EMPTY, "me").reference == "c.png"


def test_skipped_references_come_again_when_no_other_is_left(annotator):
    visit, seen = Visit(), []
    for _ in range(2 * len(NAMES)):
        visit = annotator.propose(skip(visit), EMPTY, "me")
        seen.append(visit.reference)
    assert seen == [*NAMES, *NAMES]


def test_annotated_references_come_only_on_request(annotator):
    done = replace(EMPTY, references=frozenset(NAMES))
    assert annotator.propose(Visit(), done, "me").reference is None
    assert annotator.propose(Visit(again=True), done, "me").reference == "c.png"


def test_a_query_is_counted_in_its_split_and_taken_back(annotator):
    annotator.file.path.write_text("reference,target,text,split\nb.png,c.png,x,train\n")
    visit = asyncio.run(annotator.save(Visit("c.png", "a.png", " is  red ")))
    assert asyncio.run(annotator.progress()) == Progress(1, "val", frozenset({"b.png", "c.png"}))
    assert visit.passed == {"c.png"}
    back, removed = asyncio.run(annotator.undo(replace(visit, reference="d.png", target=None, text="")))
    assert removed
    assert back == Visit("c.png", "a.png", "is red")
    assert asyncio.run(annotator.undo(visit)) == (replace(visit, written=()), False)


def test_rows_of_another_gallery_are_one_warning(annotator, capsys):
    annotator.file.path.write_text("reference,target,text\na.png,b.png,x\na.png,other.png,x\nno.png,b.png,x\n")
    report_absent(annotator.file, NAMES)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "2 names are not images of the gallery, such as 'other.png'" in line
    report_absent(annotator.file, [*NAMES, "other.png", "no.png"])
    assert capsys.readouterr().err == ""
