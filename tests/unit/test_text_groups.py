"""What the text of a query speaks of."""

import pytest

from spn4cir.report.text_groups import groups_of, word_groups


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("is red", {"colour"}),
        ("has longer sleeves and is Grey", {"length", "sleeve and strap", "colour"}),
        ("is a darker blue with polka-dots", {"brightness", "colour", "pattern"}),
        ("has a v-neck and no buttons", {"neck and collar", "negation", "material and trim"}),
        ("doesn\u2019t have writing", {"negation", "logo and words"}),
        ("shows two dogs lying on the grass", {"number", "pose and action", "place and background"}),
        ("the camera is closer to the man's face", {"view and position", "people and body"}),
        ("is more elegant and tighter", {"style", "fit and shape"}),
        ("is bigger", {"size"}),
        ("the ladies' babies", {"people and body"}),
        ("a child\u2019s drawing", {"people and body"}),
        ("is the man", {"people and body"}),
        ("is the same product", set()),
        (" ", set()),
    ],
)
def test_a_text_is_in_every_group_of_which_it_has_a_word(text: str, groups: set[str]) -> None:
    assert groups_of(text) == groups


def test_words_are_whole() -> None:
    """A word within another one does not count."""
    assert groups_of("is bored and starred") == set()


def test_each_group_has_words_in_lower_case() -> None:
    assert all(words and all(word == word.lower() for word in words) for words in word_groups().values())
