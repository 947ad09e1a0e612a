"""Garments and scenes, which the demo's images show, as values, and the differences between two of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, TypeVar

GARMENT_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
SHAPE_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")


@dataclass(frozen=True)
class Garment:
    """One garment. Every field is an attribute; `VALUES` lists the values of each."""

    VALUES: ClassVar[dict[str, tuple[str, ...]]] = {
        "category": ("dress", "shirt", "toptee"),
        "colour": GARMENT_COLOURS,
        "pattern": ("plain", "striped", "dotted", "checked"),
        "sleeve": ("sleeveless", "short-sleeved", "long-sleeved"),
        "length": ("short", "long"),
        "neck": ("round-neck", "v-neck"),
    }
    category: str
    colour: str
    pattern: str
    sleeve: str
    length: str
    neck: str


@dataclass(frozen=True)
class Scene:
    """Equal shapes on a plain background. Every field is an attribute; `VALUES` lists the values of each."""

    VALUES: ClassVar[dict[str, tuple[str, ...]]] = {
        "count": ("one", "two", "three", "four"),
        "size": ("small", "large"),
        "fill": ("solid", "hollow"),
        "colour": SHAPE_COLOURS,
        "shape": ("circle", "bar", "triangle", "star", "cross"),
        "background": ("white", "grey", "tan", "mint", "lilac"),
    }
    count: str
    size: str
    fill: str
    colour: str
    shape: str
    background: str


Thing = Garment | Scene
ThingType = TypeVar("ThingType", bound=Garment | Scene)


def attributes(thing: Thing) -> dict[str, str]:
    """Returns the attribute values by name, in the order of the fields."""
    return {name: getattr(thing, name) for name in thing.VALUES}


def draw_thing(kind: type[ThingType], rng: random.Random, **fixed: str) -> ThingType:
    """Draws a thing. Its attributes are uniformly random, except the `fixed` ones."""
    return kind(**{name: fixed.get(name) or rng.choice(values) for name, values in kind.VALUES.items()})


def changed(reference: Thing, target: Thing) -> list[str]:
    """Returns the names of the attributes in which two things of one kind differ."""
    before, after = attributes(reference), attributes(target)
    return [name for name in before if before[name] != after[name]]


def vary(thing: ThingType, changes: int, rng: random.Random) -> ThingType:
    """Returns a copy of the thing in which `changes` randomly chosen attributes have another value."""
    values = attributes(thing)
    for name in rng.sample(sorted(values), changes):
        values[name] = rng.choice([value for value in thing.VALUES[name] if value != values[name]])
    return type(thing)(**values)
