"""Texts longer than a family reads are counted and reported, never truncated silently."""

from typing import Any

import pytest

import spn4cir.progress
from spn4cir.composers.clip import ClipComposer
from spn4cir.composers.encoding import report_long_texts
from spn4cir.composers.protocol import Options
from spn4cir.datasets.texts import training_text, training_texts
from spn4cir.types import Triplet
from tests.helpers.checkpoints import tiny_state
from tests.helpers.stub import StubComposer


@pytest.fixture(autouse=True)
def no_lines_printed_yet() -> None:
    """Resets the record of lines, each of which is printed once per process."""
    spn4cir.progress.say_once.cache_clear()


class Counting(StubComposer):
    """Reads 6 tokens, two of them marks."""

    max_tokens = 6  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    def count_tokens(self, text: str) -> int:
        self.counted.append(text)
        return super().count_tokens(text)


def test_texts_beyond_the_limit_are_counted_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Five words and more of nine texts, four of them equal."""
    texts = ["a b c d", "a b c d e", "a b c d e f g h", "a", "a b", *["c d e f g h"] * 4]
    report_long_texts(Counting(), texts, "split 'dress'")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "warning: split 'dress': 3 of 6 texts have more than 6 tokens (the longest 10); family 'stub' truncates them\n"
    )


def test_nothing_is_printed_about_texts_at_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    for texts in (["a b c d", "e f g h"], [""], []):
        report_long_texts(Counting(), texts, "x")
    assert capsys.readouterr().err == ""


def test_a_line_is_printed_again_only_for_another_count(capsys: pytest.CaptureFixture[str]) -> None:
    """Validation runs after every epoch."""
    for extra in (0, 0, 1):
        report_long_texts(Counting(), ["a b c d e", *["a b c d e f"] * extra], "x")
    assert [line.split(" texts")[0] for line in capsys.readouterr().err.splitlines()] == [
        "warning: x: 1 of 1",
        "warning: x: 2 of 2",
    ]


def test_counting_is_by_words_where_they_are_few() -> None:
    """50,000 texts of a data set's few words cost a count of each word and of what may be too long."""
    composer = Counting()
    report_long_texts(composer, [f"w{i % 7} w{i % 11} w{i % 13}" for i in range(1000)] + ["w1 w2 w3 w4 w5"], "x")
    assert len(composer.counted) == 1 + 13 + 1


@pytest.mark.parametrize(
    ("repeats", "beyond"), [(75, ""), (76, "1 of 2 texts have more than 77 tokens (the longest 78)")]
)
def test_a_tokenizer_of_word_pieces(capsys: pytest.CaptureFixture[str], repeats: int, beyond: str) -> None:
    """CLIP's; 'sleevelessness' is several tokens, so that short texts may be long."""
    composer = ClipComposer.from_state(tiny_state(), 1, "tiny", Options())
    pieces = composer.count_tokens("sleevelessness") - 2
    assert pieces > 1
    report_long_texts(composer, ["red " * repeats, "sleevelessness " * (75 // pieces)], "x")
    said = capsys.readouterr().err
    assert beyond in said
    assert bool(said) == bool(beyond)
    report_long_texts(composer, ["sleevelessness " * (75 // pieces + 1)], "y")
    assert "y: 1 of 1 texts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("captions", "generated", "texts"),
    [
        (("Is red.", "no sleeves"), False, ("Is red and no sleeves", "no sleeves and Is red", "Is red", "no sleeves")),
        (("Is red.", "no sleeves"), True, ("Is red.", "no sleeves")),
        (("Is red.",), False, ("Is red.",)),
    ],
)
def test_training_chooses_from_these_texts(captions: Any, generated: bool, texts: tuple[str, ...]) -> None:
    triplet = Triplet("a", captions, "b", generated=generated)
    assert training_texts(triplet) == texts
    assert {training_text(triplet, draw / 8) for draw in range(8)} == set(texts)
