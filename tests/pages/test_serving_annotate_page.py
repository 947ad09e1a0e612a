"""The annotation page of a real `spn4cir serve --annotate`, in Chromium."""

import fcntl
import os
import re
from collections.abc import Iterator

import httpx
import pytest

from spn4cir.datasets.rows import read_table
from tests.helpers.browser import SlowAnswers, compose
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw
from tests.helpers.server import HELD_SEARCHES, Server, serve

IMAGES = 21
CHANGE = "What should be different"
HTML = "20<img src=x onerror=planted=1>.png"
# Images that a page shows are no proposals of others, until it is forgotten: the pages of earlier tests soon are.
FORGETTING = "from spn4cir.serving import annotate_page\nannotate_page._RECONNECT = 1.0\n"
# While the folder contains a file `fail`, no row can be written, with an error that is not expected.
FAILING = """
from spn4cir.serving.annotations import AnnotationFile
append = AnnotationFile.append
def failing(self, query):
    if Path("fail").exists():
        raise OSError(5, "Input/output error")
    return append(self, query)
AnnotationFile.append = failing
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("annotate")
    for number in range(IMAGES):
        name = HTML if number == IMAGES - 1 else f"{number:02}.png"
        draw(folder / "gallery" / ("in" if number % 3 == 0 else "") / name, number)
    write_checkpoint(folder / "best.pt", stage=2)
    before = HELD_SEARCHES + FORGETTING + FAILING
    with serve(folder, "--annotate", "queries.csv", "--goal", "3", before=before) as started:
        yield started


@pytest.fixture
def path(server):
    """The file, absent at the start of each test."""
    path = server.folder / "queries.csv"
    path.unlink(missing_ok=True)
    return path


@pytest.fixture
def open_annotation(server, path, open_page):
    def open_one(**options):
        page = open_page(f"{server.address}/annotate", **options)
        page.get_by_text("1 to 9", exact=True).wait_for()
        return page

    return open_one


def shown(page, role: str) -> str:
    return page.get_by_role("img", name=f"The {role}: ").get_attribute("alt").split(": ")[1]


def candidates(page) -> list[str]:
    return page.get_by_label("Candidates, nearest first").get_by_role("button").all_inner_texts()


def annotate(page, key: int, text: str, count: int) -> tuple[str, str, str]:
    """Annotates the shown reference with keys alone, up to the next candidates; returns the row that is expected."""
    page.get_by_text("1 to 9", exact=True).wait_for()
    reference = shown(page, "reference")
    target = page.get_by_role("button", name=f"Target {key}: ").get_attribute("aria-label").split(": ")[1]
    page.keyboard.press(str(key))
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.get_by_text(f"{count} of 3 queries in queries.csv").wait_for()
    page.get_by_role("status").get_by_text(re.compile(r"^Saved\. The reference is ")).wait_for()
    page.get_by_text("1 to 9", exact=True).wait_for()
    return reference, target, text


def has_text(page, text: str) -> None:
    """Waits until the field has this text."""
    page.wait_for_function("text => document.querySelector('input[data-change]').value === text", arg=text)


def rows(path) -> list[tuple[str, str, str]]:
    return [(row.reference, row.target, row.texts[0]) for row in read_table(path)]


def test_queries_are_written_skipped_and_taken_back_with_keys_alone(path, open_annotation):
    page = open_annotation()
    page.get_by_text("Scores of fewer than 50 queries allow no conclusion.").wait_for()
    first = annotate(page, 2, 'is red, "loud"', 1)
    assert rows(path) == [first]
    skipped = shown(page, "reference")
    assert skipped != first[0]
    page.keyboard.press("s")
    page.get_by_role("img", name=f"The reference: {skipped}").wait_for(state="detached")
    second = annotate(page, 9, "has stripes", 2)
    assert second[0] not in (first[0], skipped)
    assert rows(path) == [first, second]
    assert {row.split for row in read_table(path)} == {"val"}
    page.keyboard.press("u")
    page.get_by_text("1 of 3 queries").wait_for()
    page.get_by_role("status").get_by_text("Removed from the file.").wait_for()
    assert rows(path) == [first]
    assert (shown(page, "reference"), shown(page, "target")) == second[:2]
    has_text(page, "has stripes")


def test_a_reload_continues_and_can_still_undo(path, open_annotation):
    page = open_annotation()
    first = annotate(page, 1, "is red", 1)
    reference = shown(page, "reference")
    target = candidates(page)[3].split("\n")[-1]
    page.keyboard.press("4")
    page.keyboard.type("is bl")
    page.get_by_role("img", name="The target: ").wait_for()
    page.reload()
    page.get_by_text("1 to 9", exact=True).wait_for()
    assert (shown(page, "reference"), shown(page, "target")) == (reference, target)
    has_text(page, "is bl")
    assert page.get_by_role("button", name=f"Target 4: {target}").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("0 of 3 queries").wait_for()
    assert shown(page, "reference") == first[0]
    assert path.read_text() == "reference,target,text,split\n"


def test_two_visitors_get_other_references_and_take_back_their_own_rows(path, open_annotation):
    page, other = open_annotation(), open_annotation()
    assert shown(page, "reference") != shown(other, "reference")
    first = annotate(page, 1, "is red", 1)
    second = annotate(other, 1, "is blue", 2)
    assert rows(path) == [first, second]
    page.keyboard.press("u")
    page.get_by_text("Removed from the file.").wait_for()
    page.get_by_text("1 of 3 queries").wait_for()
    assert rows(path) == [second]
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_rows_of_others_count_and_their_references_are_proposed_only_on_request(path, open_annotation):
    page = open_annotation()
    answered = shown(page, "reference")
    page.keyboard.press("s")  # a reference that another page shows is not proposed
    page.get_by_role("img", name=f"The reference: {answered}").wait_for(state="detached")
    path.write_text(f"reference,target,text,split\n{answered},a.png,is red,val\nb.png,a.png,is red,train\n")
    page = open_annotation()
    page.get_by_text("1 of 3 queries in queries.csv (split val)").wait_for()
    assert shown(page, "reference") != answered
    page.get_by_role("checkbox", name="Also images that have a query").click()
    seen = set()
    while shown(page, "reference") != answered:
        before = shown(page, "reference")
        assert before not in seen
        seen.add(before)
        page.get_by_role("button", name="Skip").click()
        page.get_by_role("img", name=f"The reference: {before}").wait_for(state="detached")


def test_what_is_missing_or_damaged_is_reported_and_nothing_is_written(path, open_annotation):
    page = open_annotation()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("Choose the target first").wait_for()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("The text is empty").wait_for()
    assert not path.exists()
    path.write_text("name\n")
    page.get_by_label(CHANGE).fill("is red")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("has the columns name, expected reference").wait_for()
    assert path.read_text() == "name\n"
    path.unlink()
    page.keyboard.press("Enter")
    page.get_by_text("1 of 3 queries").wait_for()
    path.write_text("reference,target,text,split\n")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("alert").get_by_text(
        "Another program changed this row of the file; nothing was removed"
    ).wait_for()


def test_when_every_image_has_a_query_they_come_again_on_request(server, path, open_page):
    names = sorted(each.relative_to(server.folder / "gallery").as_posix() for each in server.folder.rglob("[0-9]*.png"))
    lines = [f"{name},other.png,is red,train" for name in names]
    path.write_text("\n".join(["reference,target,text,split", *lines]))
    page = open_page(f"{server.address}/annotate")
    page.get_by_text("No image is left to propose.").wait_for()
    assert page.get_by_role("button", name="Skip").is_disabled()
    page.get_by_role("checkbox", name="Also images that have a query").click()
    page.get_by_text("1 to 9", exact=True).wait_for()
    assert shown(page, "reference") in names


@pytest.mark.usefixtures("path")
def test_candidates_are_turned_and_searched_without_the_reference(open_annotation):
    page = open_annotation()
    pages = [candidates(page)]
    for position in ("10 to 18", "19 to 20"):
        page.keyboard.press("n")
        page.get_by_text(position, exact=True).wait_for()
        pages.append(candidates(page))
    names = [label.split("\n")[-1] for part in pages for label in part]
    assert len(set(names)) == len(names) == IMAGES - 1
    assert shown(page, "reference") not in names
    page.get_by_label("Search candidates by a change").fill("s1u")
    page.keyboard.press("Enter")
    page.get_by_text("1 to 9", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.get_by_text("10 to 18", exact=True).wait_for()
    page.get_by_label("Search candidates by a change").fill("")
    page.get_by_text("1 to 9", exact=True).wait_for()
    assert candidates(page) == pages[0]


def test_a_text_that_is_typed_before_the_answer_to_a_click_is_no_keys(path, open_annotation):
    """Its letters would skip the reference and undo the row."""
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    first = annotate(page, 1, "is red", 1)
    reference = shown(page, "reference")
    answers.hold()
    page.get_by_role("button", name="Target 2: ").click()
    page.keyboard.type("has sleeves, unlike it")
    answers.release()
    page.get_by_role("img", name="The target: ").wait_for()
    has_text(page, "has sleeves, unlike it")
    assert shown(page, "reference") == reference
    assert rows(path) == [first]


def test_a_text_that_is_typed_while_the_reference_changes_is_no_keys(path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    first = annotate(page, 1, "is red", 1)
    reference = shown(page, "reference")
    answers.hold()
    page.keyboard.press("s")
    page.keyboard.type("2quite")
    answers.release()
    page.get_by_role("img", name=f"The reference: {reference}").wait_for(state="detached")
    has_text(page, "")  # what came before was of the other reference
    page.keyboard.type(" unlike it")
    has_text(page, " unlike it")
    reference = shown(page, "reference")
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("img", name=f"The reference: {reference}").wait_for(state="detached")
    assert rows(path) == [first]


def test_a_text_that_is_typed_before_the_candidates_are_there_is_no_keys(path, open_annotation, hold):
    hold.unlink()
    page = open_annotation()
    first = annotate(page, 1, "is red", 1)
    hold.touch()
    page.evaluate("HTMLElement.prototype.scrollIntoView = () => { window.scrolled = window.shown()[0] }")
    page.keyboard.press("s")
    page.wait_for_function("window.scrolled === 2")  # the last message of the second action
    assert candidates(page) == []
    page.keyboard.type("2quite blue")
    hold.unlink()
    page.get_by_text("1 to 9", exact=True).wait_for()
    has_text(page, "quite blue")
    assert rows(path) == [first]


def test_a_key_after_an_enter_that_is_refused_does_nothing_before_the_answer(path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    first = annotate(page, 1, "is red", 1)
    page.keyboard.press("2")
    page.get_by_role("img", name="The target: ").wait_for()
    answers.hold()
    page.keyboard.press("Enter")
    answers.wait_for("The text is empty")
    page.keyboard.press("u")
    answers.release()
    page.get_by_role("alert").get_by_text("The text is empty").wait_for()
    page.wait_for_function("document.activeElement === document.querySelector('input[data-change]')")
    page.keyboard.type("is blue")
    page.keyboard.press("Enter")
    page.get_by_text("2 of 3 queries").wait_for()
    assert rows(path)[0] == first
    assert rows(path)[1][2] == "is blue"


def test_a_candidate_that_is_chosen_before_the_answer_to_a_refused_enter_counts(path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    reference, seen = shown(page, "reference"), [label.split("\n")[-1] for label in candidates(page)]
    page.keyboard.press("2")
    page.get_by_role("img", name=f"The target: {seen[1]}").wait_for()
    answers.hold()
    page.keyboard.press("Enter")
    answers.wait_for("The text is empty")
    page.keyboard.press("3")
    page.keyboard.type("is red")
    answers.release()
    page.get_by_role("img", name=f"The target: {seen[2]}").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("1 of 3 queries").wait_for()
    assert rows(path) == [(reference, seen[2], "is red")]


def test_a_reload_during_a_save_shows_the_next_reference_and_can_undo(server, path, open_annotation):
    page = open_annotation()
    reference = shown(page, "reference")
    page.keyboard.press("1")
    page.keyboard.type("is red")
    folder = os.open(server.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # the server waits for it
    page.keyboard.press("Enter")
    page.keyboard.press("n")
    page.get_by_text("10 to 18", exact=True).wait_for()  # the server has handled Enter before
    page.reload()
    assert page.get_by_text("1. The reference").count() == 0
    os.close(folder)
    page.get_by_text("1 to 9", exact=True).wait_for()
    assert shown(page, "reference") != reference
    page.keyboard.press("u")
    page.get_by_role("status").get_by_text("Removed from the file.").wait_for()
    assert shown(page, "reference") == reference
    assert path.read_text() == "reference,target,text,split\n"


def test_a_save_that_fails_in_an_unexpected_way_is_reported_and_can_be_repeated(server, path, open_annotation):
    page = open_annotation()
    (server.folder / "fail").touch()
    page.keyboard.press("1")
    page.keyboard.type("is red")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("This failed; the server prints why.").wait_for()
    (server.folder / "fail").unlink()
    page.keyboard.press("Enter")
    page.get_by_text("1 of 3 queries").wait_for()
    assert [text for _, _, text in rows(path)] == ["is red"]


def test_undo_that_is_pressed_again_before_its_answer_removes_one_row(path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    first, second = annotate(page, 1, "is red", 1), annotate(page, 2, "is blue", 2)
    answers.hold()
    page.keyboard.press("u")
    answers.wait_for("Removed from the file.")
    page.keyboard.press("u")
    answers.release()
    page.get_by_role("status").get_by_text("Removed from the file.").wait_for()
    assert (shown(page, "reference"), shown(page, "target")) == second[:2]
    has_text(page, "is blue")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("status").get_by_text("Saved.").wait_for()
    assert rows(path) == [first, second]


def test_skip_that_is_pressed_again_before_its_answer_passes_one_reference(path, open_annotation):
    page = open_annotation()
    order = [shown(page, "reference")]
    for _ in range(2):
        page.keyboard.press("s")
        page.get_by_role("img", name=f"The reference: {order[-1]}").wait_for(state="detached")
        page.get_by_text("1 to 9", exact=True).wait_for()
        order.append(shown(page, "reference"))
    page.context.close()
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    assert shown(page, "reference") == order[0]
    answers.hold()
    page.keyboard.press("s")
    answers.wait_for(f"The reference is {order[1]}.")
    page.keyboard.press("s")
    answers.release()
    assert annotate(page, 1, "is red", 1)[0] == order[1]
    assert len(rows(path)) == 1


def test_enter_that_is_pressed_again_before_its_answer_writes_one_row_and_no_alert(path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    reference, target = shown(page, "reference"), candidates(page)[0].split("\n")[-1]
    page.keyboard.press("1")
    page.keyboard.type("is red")
    answers.hold()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save").click()
    answers.wait_for("Saved.")
    answers.release()
    page.get_by_role("status").get_by_text("Saved.").wait_for()
    assert rows(path) == [(reference, target, "is red")]
    assert page.get_by_role("alert").inner_text() == ""
    second = annotate(page, 2, "is blue", 2)
    assert rows(path) == [(reference, target, "is red"), second]


def test_a_letter_after_enter_is_not_the_text_of_the_next_query(path, open_annotation):
    """A draft that undo has restored, as it is the server's last text."""
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    first = annotate(page, 1, "is redder", 1)
    page.keyboard.press("u")
    page.get_by_role("status").get_by_text("Removed from the file.").wait_for()
    page.get_by_text("1 to 9", exact=True).wait_for()
    page.get_by_label(CHANGE).focus()
    answers.hold()
    page.keyboard.press("Enter")
    page.get_by_label(CHANGE).press("x")
    answers.wait_for("Saved.")
    answers.release()
    page.get_by_role("status").get_by_text("Saved.").wait_for()
    has_text(page, "")
    page.get_by_text("1 to 9", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("The text is empty").wait_for()
    assert rows(path) == [first]


def test_a_key_chooses_the_candidate_that_is_shown(path, open_annotation):
    """Not none, because the server has turned the candidates meanwhile."""
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    seen = [label.split("\n")[-1] for label in candidates(page)]
    reference = shown(page, "reference")
    page.keyboard.press("2")
    page.get_by_role("img", name=f"The target: {seen[1]}").wait_for()
    page.keyboard.press("Escape")
    answers.hold()
    page.keyboard.press("n")
    answers.wait_for("10 to 18")
    page.keyboard.press("3")
    page.keyboard.type("is red")
    page.keyboard.press("Enter")
    answers.wait_for("Saved.")
    answers.release()
    assert rows(path) == [(reference, seen[2], "is red")]


@pytest.mark.usefixtures("path")
def test_the_candidates_do_not_turn_beyond_the_last(open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    answers.hold()
    for _ in range(5):
        page.keyboard.press("n")
    answers.release()
    page.get_by_text("19 to 20", exact=True).wait_for()
    assert len(candidates(page)) == 2


def test_what_is_set_while_a_row_is_written_stays(server, path, open_annotation):
    answers = SlowAnswers()
    page = open_annotation(answers=answers)
    page.keyboard.press("1")
    page.keyboard.type("is red")
    page.get_by_role("img", name="The target: ").wait_for()
    again = page.get_by_role("checkbox", name="Also images that have a query")
    reference = shown(page, "reference")
    folder = os.open(server.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # the server waits for it
    page.keyboard.press("Enter")
    again.click()
    answers.hold()
    page.keyboard.press("n")
    answers.wait_for("10 to 18")  # the server has handled the click before
    answers.release()
    os.close(folder)
    page.get_by_role("status").get_by_text("Saved.").wait_for()
    page.reload()
    page.get_by_text("1 to 9", exact=True).wait_for()
    assert again.is_checked()
    assert shown(page, "reference") != reference


def test_enter_that_ends_the_composition_of_a_character_saves_nothing(path, open_annotation):
    page = open_annotation()
    reference, target = shown(page, "reference"), candidates(page)[0].split("\n")[-1]
    page.keyboard.press("1")
    page.keyboard.type("is ")
    compose(page, "赤い")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Saved.").wait_for()
    assert rows(path) == [(reference, target, "is 赤い")]


def test_a_name_with_html_is_text(path, open_annotation):
    page = open_annotation()
    while shown(page, "reference") == HTML:
        page.keyboard.press("s")
        page.get_by_role("img", name=f"The reference: {HTML}").wait_for(state="detached")
        page.get_by_text("1 to 9", exact=True).wait_for()
    reference = shown(page, "reference")
    for following in ("10 to 18", "19 to 20", ""):
        if f"\n{HTML}" in "\n".join(candidates(page)):
            break
        page.keyboard.press("n")
        page.get_by_text(following, exact=True).wait_for()
    page.get_by_role("button", name=re.compile(f"^Target [1-9]: {re.escape(HTML)}$")).click()
    page.get_by_role("img", name=f"The target: {HTML}").wait_for()
    page.get_by_label(CHANGE).fill("<b>bold</b>")
    page.keyboard.press("Enter")
    page.get_by_text("1 of 3 queries").wait_for()
    assert rows(path) == [(reference, HTML, "<b>bold</b>")]
    assert page.evaluate("[typeof planted, document.querySelectorAll('[onerror], b').length]") == ["undefined", 0]


@pytest.mark.usefixtures("path")
def test_a_phone_shows_the_page_without_sideways_scrolling(open_annotation):
    page = open_annotation(**PHONE)
    page.get_by_role("button", name="Target 1: ").click()
    page.get_by_role("img", name="The target: ").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    unnamed = "[...document.querySelectorAll('img:not([alt]), button:not([aria-label])')].filter(e => !e.innerText)"
    assert page.evaluate(f"{unnamed}.length") == 0
    page.get_by_role("link", name="Search page").click()
    page.get_by_role("link", name="Annotation page").wait_for()


def test_without_a_file_there_is_no_annotation_page(server, open_page):
    with serve(server.folder) as other:
        assert httpx.get(f"{other.address}/annotate").status_code == 404
        page = open_page(other.address)
        page.get_by_text("1 to 21 of 21").wait_for()
        assert page.get_by_role("link", name="Annotation page").count() == 0
        page.wait_for_load_state("networkidle")  # images that come after the server has ended are errors
        page.close()
