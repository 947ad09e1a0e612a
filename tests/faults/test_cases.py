"""Each bad input ends in one line, and nothing is written; input that only looks bad works."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from tests.faults.attempts import PASSWORD, Case, attempt, fresh_place
from tests.faults.cases import all_cases
from tests.faults.messages import wrong
from tests.faults.places import Place, spoil

# `python -m tests.faults.cases` tries all; these are spread over every kind and field.
EVERY = 6
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
    found = _judged(place, text)
    assert fault in found
    assert bool(fault) == bool(found)


@pytest.mark.parametrize(
    "text",
    [
        "make or model is not known",
        "the list has only 3 of 4 names, and no other",
        "no name is set, so the search cannot run",
        "unknown keys: name, set and list",
        "wrong names; name of the file and its list",
        "the run was not expected to search here",
        "an image is bytes, or a name",
        "only one list should name it",
        "refused: the export is in docs/settings",
    ],
)
def test_words_of_a_remedy_are_none_without_an_instruction(place: Place, text: str) -> None:
    assert "says no remedy" in _judged(place, f"a.json: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "is not valid; download or write it again",
        "lacks 'a', or is cut: check the file",
        "has no row, and needs one; add some, or leave the file out",
        "has 3 names, expected 4",
        "field 'a' is 7, expected a text",
        "a: Input should be greater than 0 (got -1)",
        "no such file; write one with: spn4cir index",
        "was not made; run: dvc repro code",
    ],
)
def test_an_instruction_or_what_is_expected_is_a_remedy(place: Place, text: str) -> None:
    assert _judged(place, f"a.json: {text}") == ""


def _judged(place: Place, text: str) -> str:
    def refuse() -> None:
        raise InputError(text)

    return attempt(Case("kind", "what", lambda _: refuse, r"a\.json"), place)


def test_the_usage_comes_before_a_wrong_option(place: Place) -> None:
    words = "runs", "--commits", "many"
    assert attempt(Case("kind", "what", lambda _: words, "a whole number", 2), place) == ""
    assert "lacks 'half'" in attempt(Case("kind", "what", lambda _: words, "half", 2), place)


def test_an_attempt_finds_what_was_written(place: Place) -> None:
    def write() -> None:
        spoil(place.work / "half.json", "{")
        raise InputError("a.json: is bad; write it again")

    assert attempt(Case("kind", "what", lambda _: write, "a"), place) == "wrote or removed files"


def _replace(path: Path) -> None:
    spoil(path, path.read_bytes())


@pytest.mark.parametrize(
    ("change", "status", "fault"),
    [
        (lambda root: (root / "triplets.csv").unlink(), 1, "changed the folder of its inputs: folder"),
        (lambda root: _replace(root / "triplets.csv"), 1, "changed the folder of its inputs: folder"),
        (lambda root: (root / "more.csv").touch(), 1, "changed the folder of its inputs: folder"),
        (lambda root: _replace(root / "triplets.csv"), 0, "changed its inputs: folder/triplets.csv"),
        (lambda root: (root / "triplets.csv").unlink(), 0, "changed its inputs: folder/triplets.csv"),
        (lambda root: (root / "more.csv").touch(), 0, ""),  # an out beside the inputs
    ],
)
def test_an_attempt_finds_a_change_of_the_inputs(
    place: Place, change: Callable[[Path], object], status: int, fault: str
) -> None:
    def make(place: Place) -> Callable[[], object]:
        root = place.copy("folder")

        def read() -> str:
            change(root)
            if status:
                raise InputError("a.json: is bad; write it again")
            return "a"

        return read

    found = attempt(Case("kind", "what", make, "a", status), place)
    assert found.startswith(fault)
    assert bool(fault) == bool(found)


@pytest.mark.parametrize(
    ("path", "words", "fault"),
    [
        ("data/index/weights.pt", "index", "lacks 'index'"),
        ("data/hub folder", "hub folder", "lacks 'hub folder'"),
        ("data/index/weights.pt", r"error: weights\.pt: ", ""),
        ("data/indexes.json", "indexes", ""),
        ("work/folder", "error: folder: ", ""),
    ],
)
def test_the_folders_of_a_place_are_not_words_of_a_message(place: Place, path: str, words: str, fault: str) -> None:
    def refuse() -> None:
        raise InputError(f"{place.work.parent / path}: is bad; write it again")

    found = attempt(Case("kind", "what", lambda _: refuse, words), place)
    assert fault in found
    assert bool(fault) == bool(found)


def test_a_wrong_option_needs_a_remedy() -> None:
    usage = "Usage: root runs [OPTIONS]\n{}\nError: Invalid value for '--commits': {}"
    assert wrong(usage.format("Try 'root runs -h' for help.\n", "bad"), "bad", 2, Path("a")) == ""
    assert wrong(usage.format("", "got '1', expected at least 2"), "at least", 2, Path("a")) == ""
    assert "says no remedy" in wrong(usage.format("", "bad"), "bad", 2, Path("a"))


def test_an_attempt_finds_a_password_in_the_output(place: Place) -> None:
    assert attempt(Case("kind", "what", lambda _: lambda: f"a {PASSWORD}", "a", 0), place) == "printed a password"
    assert _judged(place, f"a.json: the key {PASSWORD} is bad; write it again") == "printed a password"
    assert _judged(place, f"a.json: http://user:{PASSWORD}@a is bad; write it again") == ""  # messages mask it
