"""Captions of a given number of words, the prompts that ask for them, and the way back to attributes."""

from __future__ import annotations

import random

from demo.draw.attributes import Garment, Scene, Thing, attributes

# Filled with the attributes; asking for another number of words gives the next smaller template.
GARMENT_TEMPLATES = {
    4: "{colour} {pattern} {sleeve} {category}",
    5: "{length} {colour} {pattern} {sleeve} {category}",
    8: "a {length} {colour} {pattern} {sleeve} {category} with {neck}",
    10: "this is a {length} {colour} {pattern} {sleeve} {category} with {neck}",
}
SCENE_TEMPLATES = {
    4: "{count} {size} {colour} {shape}",
    5: "{count} {size} {fill} {colour} {shape}",
    8: "{count} {size} {fill} {colour} {shape} on {background} background",
    10: "there are {count} {size} {fill} {colour} {shape} on {background} background",
}
WORD_COUNTS = tuple(SCENE_TEMPLATES)
# How often each count is trained: the longer ones name every attribute, so more is learnt from them.
WORD_WEIGHTS = (1, 1, 2, 2)
PROMPT = "please briefly describe the {noun} in {words} words"


def template(kind: type[Thing], words: int) -> str:
    """The template for captions of at most `words` words."""
    templates = GARMENT_TEMPLATES if kind is Garment else SCENE_TEMPLATES
    return templates[max(count for count in templates if count <= words)]


def mentioned(kind: type[Thing], words: int) -> list[str]:
    """The attributes that a caption of `words` words names."""
    return [name for name in kind.VALUES if f"{{{name}}}" in template(kind, words)]


def plural(shape: str, count: str) -> str:
    """The shape's noun, as many as `count` says."""
    if count == "one":
        return shape
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def caption(thing: Thing, words: int) -> str:
    """The caption of `words` words that a perfect captioner gives."""
    values = attributes(thing)
    if isinstance(thing, Scene):
        values["shape"] = plural(thing.shape, thing.count)
    return template(type(thing), words).format(**values)


def nouns(thing: Thing) -> tuple[str, ...]:
    """The words for an image of `thing` in the production code's questions: a data set's own, and a pool's."""
    return (thing.category, "image") if isinstance(thing, Garment) else ("image",)


def prompt(noun: str, words: int) -> str:
    """The question that the production code asks about an image."""
    return PROMPT.format(noun=noun, words=words)


def attributes_of(text: str, kind: type[Thing]) -> dict[str, str]:
    """The attribute values that a caption names; attributes that it leaves out are absent.

    A word that is a value of two attributes (a scene's colours are none of its backgrounds, a garment's
    lengths none of its sleeves) does not occur, so every word has one meaning.
    """
    singular = {plural(shape, "two"): shape for shape in Scene.VALUES["shape"]}
    words = [singular.get(word, word) for word in text.split()]
    return {name: word for word in words for name, values in kind.VALUES.items() if word in values}


def free_caption(thing: Thing, rng: random.Random) -> str:
    """A caption as people write them: of any length, sometimes only the attributes, in any order."""
    if rng.random() < 0.7:
        return caption(thing, rng.choices(WORD_COUNTS, WORD_WEIGHTS)[0])
    values = list(attributes(thing).values())
    return " ".join(rng.sample(values, rng.randint(3, len(values))))
