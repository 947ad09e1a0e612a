"""The steps of a visitor, and their part of the address of the page."""

import gc

import pytest

from spn4cir.errors import InputError
from spn4cir.search.hits import Hit
from spn4cir.serving.history import PageHistory, PageState, PastSearch, Reference, Visits
from spn4cir.serving.page_address import SharedSearch, query_string, read_search
from spn4cir.serving.service import Found

GREEN, BLUE, ODD = (Reference(name, name, f"/{name}") for name in ("green.png", "in/blue.png", "a b&#?.png"))
UPLOAD = Reference("mine.png", b"...", "data:")
FOUND = Found((Hit("red.png", 0.5, "/red.png"),), None)
RED, LONGER = PastSearch(GREEN, "is red", 12, FOUND), PastSearch(BLUE, "is longer", 5, FOUND)


def steps_of(*events: Reference | PastSearch) -> PageHistory:
    history = PageHistory()
    for event in events:
        history.choose(event) if isinstance(event, Reference) else history.record(event)
    return history


def test_undo_of_a_refined_search_returns_to_the_search_before_it():
    history = steps_of(GREEN, RED, BLUE, LONGER)
    seen = []
    while len(history.steps) > 1:
        history.undo()
        seen.append(history.current)
    assert seen == [PageState(GREEN, RED), PageState(GREEN), PageState()]
    history.undo()
    assert history.steps == [PageState()]


def test_a_choice_keeps_the_ranking_and_undo_takes_the_choice_back():
    history = steps_of(GREEN, RED, BLUE)
    assert history.current == PageState(BLUE, RED)
    assert history.current.pending
    history.undo()
    assert history.current == PageState(GREEN, RED)
    assert not history.current.pending


def test_a_choice_replaces_the_choice_before_it():
    assert steps_of(GREEN, BLUE).steps == [PageState(), PageState(BLUE)]
    assert steps_of(GREEN, RED, BLUE, GREEN).steps == steps_of(GREEN, RED).steps


def test_a_repeated_search_is_one_step():
    assert steps_of(GREEN, RED, RED).steps == steps_of(GREEN, RED).steps


def test_searches_are_listed_in_order_and_choices_are_not():
    assert steps_of(GREEN, RED, BLUE, LONGER, GREEN).searches == [RED, LONGER]


def test_the_oldest_steps_are_forgotten():
    history = steps_of(GREEN, *(PastSearch(GREEN, str(number), 12, FOUND) for number in range(50)))
    texts = [search.text for search in history.searches]
    assert texts == [str(number) for number in range(50 - len(texts), 50)]
    assert 2 < len(texts) < 20


@pytest.mark.parametrize(
    ("events", "address"),
    [
        ((), ""),
        ((GREEN,), "?reference=green.png"),
        ((GREEN, RED), "?reference=green.png&text=is+red"),
        ((GREEN, RED, BLUE), "?reference=green.png&text=is+red"),
        ((BLUE, LONGER), "?reference=in%2Fblue.png&text=is+longer&k=5"),
        ((ODD,), "?reference=a+b%26%23%3F.png"),
        ((UPLOAD,), ""),
        ((UPLOAD, PastSearch(UPLOAD, "is red", 12, FOUND)), "?text=is+red"),
    ],
)
def test_the_address_contains_the_shown_search_without_uploads(events, address):
    assert query_string(steps_of(*events).current) == address


@pytest.mark.parametrize(
    ("k", "number"), [("", 12), ("5", 5), ("0", 0), ("-1", 0), ("x", 0), ("9" * 5000, 0), ("²", 0)]
)
def test_an_address_without_a_number_of_hits_asks_for_none(k, number):
    assert read_search("green.png", "is red", k) == SharedSearch("green.png", "is red", number)


def upload(megabytes: int) -> Reference:
    return Reference("mine.png", bytes(megabytes * 1_000_000), "data:")


def test_steps_with_large_uploads_are_forgotten_earlier():
    history = steps_of()
    for number in range(6):
        history.record(PastSearch(upload(10), str(number), 12, FOUND))
        assert history.upload_bytes <= 30_000_000
    assert [search.text for search in history.searches] == ["3", "4", "5"]


def test_an_upload_that_several_steps_contain_is_counted_once():
    mine = upload(10)
    history = steps_of(mine, *(PastSearch(mine, str(number), 12, FOUND) for number in range(5)))
    assert history.upload_bytes == 10_000_000
    assert len(history.searches) == 5


def test_the_uploads_of_all_open_visits_have_a_limit(monkeypatch):
    monkeypatch.setattr("spn4cir.serving.history._ALL_UPLOADS", 45_000_000)
    visits = Visits()
    first, second = visits.open(), visits.open()
    for history in (first, second):
        history.choose(GREEN)
        history.record(PastSearch(upload(20), "is red", 12, FOUND))
    visits.require_room(5_000_000)
    with pytest.raises(InputError, match="no room for another upload; close pages, or try again in a minute"):
        visits.require_room(5_000_001)
    del first, history
    gc.collect()
    visits.require_room(20_000_000)
    assert second.upload_bytes == 20_000_000
