"""Captions of the demo say what the images show, in as many words as asked."""

import random

import pytest

from demo.draw.attributes import Garment, Scene, attributes, draw_thing, vary
from demo.draw.captions import WORD_COUNTS, attributes_of, caption, free_caption, mentioned, nouns, prompt
from demo.draw.changes import garment_captions, scene_caption


@pytest.mark.parametrize("words", WORD_COUNTS)
@pytest.mark.parametrize("kind", [Garment, Scene])
def test_caption_has_its_length_and_reads_back(kind, words):
    rng = random.Random(0)
    for _ in range(50):
        thing = draw_thing(kind, rng)
        text = caption(thing, words)
        assert len(text.split()) == words
        assert attributes_of(text, kind) == {name: attributes(thing)[name] for name in mentioned(kind, words)}


@pytest.mark.parametrize("kind", [Garment, Scene])
def test_eight_words_name_every_attribute(kind):
    assert set(mentioned(kind, 8)) == set(mentioned(kind, 10)) == set(kind.VALUES)
    assert len(mentioned(kind, 4)) < len(mentioned(kind, 5)) < len(kind.VALUES)


@pytest.mark.parametrize("kind", [Garment, Scene])
def test_no_word_is_a_value_of_two_attributes(kind):
    values = [value for group in kind.VALUES.values() for value in group]
    assert len(values) == len(set(values))


def test_wrong_and_missing_words_read_back_as_such():
    assert attributes_of("two red nonsense", Scene) == {"count": "two", "colour": "red"}


def test_prompt_is_the_productions_one():
    garment = Garment("toptee", "red", "plain", "sleeveless", "long", "v-neck")
    scene = Scene("one", "small", "solid", "red", "cross", "tan")
    assert nouns(garment) == ("toptee", "image")  # the word of its data set, and that of a pool
    assert nouns(scene) == ("image",)
    assert prompt("toptee", 4) == "please briefly describe the toptee in 4 words"
    assert prompt("image", 10) == "please briefly describe the image in 10 words"


def test_free_captions_vary():
    rng = random.Random(0)
    thing = draw_thing(Scene, rng)
    texts = {free_caption(thing, rng) for _ in range(50)}
    assert len(texts) > 10
    assert all(attributes(thing).items() >= attributes_of(text, Scene).items() for text in texts)


def test_garment_captions_tell_a_change_in_two_ways():
    rng = random.Random(0)
    reference = Garment("dress", "red", "plain", "sleeveless", "long", "v-neck")
    target = Garment("dress", "blue", "plain", "sleeveless", "long", "v-neck")
    pairs = [garment_captions(reference, target, rng) for _ in range(40)]
    assert all("blue" in text for pair in pairs for text in pair)
    assert any(first != second for first, second in pairs)


def test_scene_captions_tell_every_change_and_agree_in_number():
    rng = random.Random(0)
    for _ in range(200):
        reference = draw_thing(Scene, rng)
        target = vary(reference, 2, rng)
        text = scene_caption(reference, target, rng)
        assert text
        assert "{" not in text
        if target.count == "one":
            assert "them " not in text or "of them" in text
