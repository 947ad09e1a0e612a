"""Modification texts: those of training and validation, and those written from captions."""

from collections import Counter

import pytest

from spn4cir.config.positives import Triplets
from spn4cir.datasets.texts import evaluation_text, training_text
from spn4cir.errors import InputError
from spn4cir.positives.triplets import modification_texts, write_triplets
from spn4cir.types import Gallery, Triplet

PAIR = Triplet("a", (" is Red., ", "has  no sleeves? "), "b")


def test_a_pair_gives_four_texts_equally_often() -> None:
    """Both orders and each alone, stripped at the ends, a quarter of the draws each."""
    counts = Counter(training_text(PAIR, draw / 1000) for draw in range(1000))
    assert counts == {
        "is Red and has  no sleeves": 250,
        "has  no sleeves and is Red": 250,
        "is Red": 250,
        "has  no sleeves": 250,
    }


def test_generated_captions_are_drawn_alone() -> None:
    """Two texts of two templates are no pair: one at random, as written."""
    triplet = Triplet("a", ("Unlike x, I want y.", "y instead of x"), "b", generated=True)
    counts = Counter(training_text(triplet, draw / 1000) for draw in range(1000))
    assert counts == {"Unlike x, I want y.": 500, "y instead of x": 500}


def test_one_caption_is_the_text() -> None:
    for draw in (0.0, 0.5, 1 - 2**-53):
        assert training_text(Triplet("a", ("Is red.",), "b"), draw) == "Is red."
    assert training_text(PAIR, 1 - 2**-53) == "has  no sleeves"


@pytest.mark.parametrize(
    ("captions", "capitalise", "text"),
    [
        (("Is red.",), False, "Is red."),
        (("is red",), True, "is red"),
        ((" is Red., ", "Longer? "), False, "is Red and Longer"),
        ((" is Red., ", "Longer? "), True, "Is red and Longer"),
        (("a.", "b", "c"), False, "a and b and c"),
    ],
)
def test_evaluation_texts(captions: tuple[str, ...], capitalise: bool, text: str) -> None:
    """One caption as annotated; several stripped and joined; the capital rule lowers the rest of the first."""
    assert evaluation_text(captions, capitalise) == text


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("template", "text"),
    [(0, "blue one instead of red dress"), (1, "Unlike red dress, I want blue one"), (2, "blue one")],
)
def test_templates(template: int, text: str) -> None:
    assert modification_texts("red dress", "blue one", [template], 77, words) == (text,)


@pytest.mark.parametrize(
    ("reference", "target", "text"),
    [
        ("three large bars on grey background", "three small bars on pink background", "small pink"),
        ("A red dress.", "a Red dress with a white collar.", "with white collar"),
        ("a dress, long and red", "red and long dress", "red and long dress"),
        ("", "a dress", "a dress"),
    ],
)
def test_template_3_has_the_words_that_are_new(reference: str, target: str, text: str) -> None:
    """Without a new word the text is the target's caption, never an empty text."""
    assert modification_texts(reference, target, [3], 77, words) == (text,)


@pytest.mark.parametrize(("limit", "falls"), [(6, False), (5, True)])
def test_a_long_text_falls_back_to_the_target(limit: int, falls: bool) -> None:
    """Six words fit into six; the other template, of two, is judged by itself."""
    texts = modification_texts("red dress", "blue one", [0, 2], limit, words)
    assert texts == ("blue one" if falls else "blue one instead of red dress", "blue one")


def test_long_texts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Limit 4: "caption b instead of caption a" falls back, a target's caption of five words stays too long."""
    captions = {"a": "caption a", "b": "caption b", "c": "one two three four five"}
    list(
        write_triplets(
            [("a", "b"), ("b", "c")], captions, settings(templates=[0, 2], max_tokens=4), frozenset(), 1, words
        )
    )
    said = capsys.readouterr().err
    assert said.startswith(
        "triplets: 2 texts of more than 4 tokens became the target's caption; 2 captions are too long"
    )
    list(write_triplets([("a", "b")], captions, settings(templates=[2], max_tokens=4), frozenset(), 1, words))
    assert capsys.readouterr().err == ""


def test_braces_in_captions_are_letters() -> None:
    assert modification_texts("{0}", "{1} {x}", [0], 77, words) == ("{1} {x} instead of {0}",)


CAPTIONS = {name: f"caption {name}" for name in "abcdefgh"}
PAIRS = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f")]


def settings(**changes: object) -> Triplets:
    return Triplets(
        **{"source": "make", "hub": None, "refer": False, "templates": [2], "sample": None, "max_tokens": 77}
        | {"writer": "templates", "llm": None}
        | changes
    )


def test_triplets_of_all_pairs_in_order() -> None:
    written = list(write_triplets(PAIRS, CAPTIONS, settings(templates=[0, 1]), frozenset(), 1, words))
    assert [(w.triplet.reference_name, w.triplet.target_name) for w in written] == PAIRS
    assert written[0].triplet.captions == ("caption b instead of caption a", "Unlike caption a, I want caption b")
    assert (written[0].reference_caption, written[0].target_caption) == ("caption a", "caption b")
    assert written[0].triplet.generated


def test_refer_keeps_annotated_references() -> None:
    written = list(write_triplets(PAIRS, CAPTIONS, settings(refer=True), frozenset("bdz"), 1, words))
    assert [w.triplet.reference_name for w in written] == ["b", "d"]


def test_a_sample_keeps_the_order_and_the_seed_decides_it() -> None:
    """A sample is drawn after refer: of its references only."""

    def names(seed: int, **changes: object) -> list[str]:
        written = list(write_triplets(PAIRS, CAPTIONS, settings(sample=3, **changes), frozenset("abcd"), seed, words))
        return [w.triplet.reference_name for w in written]

    draws = {tuple(names(seed)) for seed in range(50)}
    assert len(draws) == 10, "5 choose 3"
    assert all(list(draw) == sorted(draw) for draw in draws)
    assert names(3) == names(3)
    assert {name for seed in range(50) for name in names(seed, refer=True)} == set("abcd")


def test_a_sample_of_more_than_there_are_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(write_triplets(PAIRS, CAPTIONS, settings(sample=9), frozenset(), 1, words))) == 5
    assert "sample 9 keeps all 5 pairs" in capsys.readouterr().err


def test_images_with_an_empty_caption_get_no_triplet(capsys: pytest.CaptureFixture[str]) -> None:
    """They are neither references nor targets; a sample is drawn from the other pairs."""
    captions = {**CAPTIONS, "b": "", "f": "", "h": ""}
    written = list(write_triplets(PAIRS, captions, settings(), frozenset(), 1, words))
    assert [w.triplet.reference_name for w in written] == ["c", "d"]
    assert capsys.readouterr().err == ("triplets: 2 images have an empty caption (b, f); 3 of 5 pairs are left out\n")
    assert len(list(write_triplets(PAIRS, captions, settings(sample=2), frozenset(), 1, words))) == 2
    with pytest.raises(InputError, match="no pair is left; check refer, the match window and the empty captions"):
        write_triplets(PAIRS, dict.fromkeys("abcdef", ""), settings(), frozenset(), 1, words)


def test_nothing_left_and_captions_that_lack() -> None:
    with pytest.raises(InputError, match="no pair is left"):
        write_triplets(PAIRS, CAPTIONS, settings(refer=True), frozenset(), 1, words)
    with pytest.raises(InputError, match="image 'f' has no caption among 1"):
        write_triplets([("a", "f")], {"a": "x"}, settings(), frozenset(), 1, words)


def test_a_gallery_knows_places_and_parts() -> None:
    gallery = Gallery(("a", "b", "c"), ("pa", "pb", "pc"))  # type: ignore[arg-type]
    assert (len(gallery), gallery.index["c"]) == (3, 2)
    assert gallery.restrict(frozenset({"c", "a", "z"})) == Gallery(("a", "c"), ("pa", "pc"))  # type: ignore[arg-type]
