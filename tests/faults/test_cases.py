"""Each bad input ends in one line, and nothing is written; input that only looks bad works."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from tests.faults.attempts import Case, attempt, fresh_place
from tests.faults.cases import all_cases
from tests.faults.places import Place, spoil

# `python -m tests.faults.cases` tries all; these are spread over every kind and field.
EVERY = 4
CASES = all_cases()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults") / "templates"


@pytest.fixture
def place(templates: Path) -> Iterator[Place]:
    with fresh_place(templates) as place:
        yield place


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 300
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", CASES[::EVERY], ids=lambda case: case.name.encode("ascii", "replace").decode())
def test_a_case(case: Case, place: Place) -> None:
    assert attempt(case, place) == ""


def _fails() -> None:
    raise KeyError("x")


def _grows() -> None:
    assert len(b"1" * 1_100_000_000) > 0


@pytest.mark.parametrize(
    ("reader", "fault"),
    [
        (_fails, "raised KeyError"),
        (_grows, "MB"),
        (lambda: bytes(1 << 34), "ran out of memory"),
        (lambda: "ok", "ended with status 0, expected 1"),
    ],
)
def test_an_attempt_finds_a_fault(place: Place, reader: object, fault: str) -> None:
    assert fault in attempt(Case("kind", "what", lambda _: reader, "words"), place)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.json: is not valid; write it again", ""),
        ("b.json: is not valid; write it again", "lacks 'a\\.json'"),
        ("a.json: is bad", "says no remedy"),
        ("a.json: " + "x" * 3_000, "says no remedy"),
    ],
)
def test_an_attempt_judges_the_message(place: Place, text: str, fault: str) -> None:
    def refuse() -> None:
        raise InputError(text)

    found = attempt(Case("kind", "what", lambda _: refuse, r"a\.json"), place)
    assert fault in found
    assert bool(fault) == bool(found)


def test_an_attempt_finds_what_was_written(place: Place) -> None:
    def write() -> None:
        spoil(place.work / "half.json", "{")
        raise InputError("a.json: is bad; write it again")

    assert attempt(Case("kind", "what", lambda _: write, "a"), place) == "wrote or removed files"
