"""Captions of a given number of words, the prompts that ask for them, and the attributes that a caption names."""

from __future__ import annotations

import random

from demo.draw.attributes import Garment, Scene, Thing, attributes

# By number of words. The attributes fill in the fields; for another number the next smaller template is used.
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
# Relative frequency of each word count in training. The longer captions name every attribute and teach more.
WORD_WEIGHTS = (1, 1, 2, 2)
PROMPT = "please briefly describe the {noun} in {words} words"


def template(kind: type[Thing], words: int) -> str:
    """Returns the template for captions of at most `words` words."""
    templates = GARMENT_TEMPLATES if kind is Garment else SCENE_TEMPLATES
    return templates[max(count for count in templates if count <= words)]


def mentioned(kind: type[Thing], words: int) -> list[str]:
    """Returns the names of the attributes that occur in a caption of `words` words."""
    return [name for name in kind.VALUES if f"{{{name}}}" in template(kind, words)]


def plural(shape: str, count: str) -> str:
    """Returns the noun of the shape, in the plural unless `count` is "one"."""
    if count == "one":
        return shape
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def caption(thing: Thing, words: int) -> str:
    """Returns the caption of `words` words that a perfect captioner writes."""
    values = attributes(thing)
    if isinstance(thing, Scene):
        values["shape"] = plural(thing.shape, thing.count)
    return template(type(thing), words).format(**values)


def nouns(thing: Thing) -> tuple[str, ...]:
    """Returns the nouns for an image of `thing` in the questions of the pipeline: of a data set, and of a pool."""
    return (thing.category, "image") if isinstance(thing, Garment) else ("image",)


def prompt(noun: str, words: int) -> str:
    """Returns the question that the pipeline asks about an image."""
    return PROMPT.format(noun=noun, words=words)


def attributes_of(text: str, kind: type[Thing]) -> dict[str, str]:
    """Returns the attribute values that a caption names. Attributes that it does not name are absent.

    Every word has one meaning: no value occurs in two attributes of a kind (the colours of scenes and their
    backgrounds are disjoint, so are the lengths of garments and their sleeves).
    """
    singular = {plural(shape, "two"): shape for shape in Scene.VALUES["shape"]}
    words = [singular.get(word, word) for word in text.split()]
    return {name: word for word in words for name, values in kind.VALUES.items() if word in values}


def free_caption(thing: Thing, rng: random.Random) -> str:
    """Returns a caption as people write them: of any length, sometimes only some attributes in any order."""
    if rng.random() < 0.7:
        return caption(thing, rng.choices(WORD_COUNTS, WORD_WEIGHTS)[0])
    values = list(attributes(thing).values())
    return " ".join(rng.sample(values, rng.randint(3, len(values))))
