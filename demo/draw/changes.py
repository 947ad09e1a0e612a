"""Modification texts: sentences as people write them for the change from one thing to another."""

from __future__ import annotations

import random

from demo.draw.attributes import Garment, Scene, Thing, attributes, changed
from demo.draw.captions import caption, plural

# {new} and {old} are the values of the attribute in the target and in the reference.
GARMENT_PHRASES: dict[str, tuple[str, ...]] = {
    "colour": ("is {new}", "is {new} instead of {old}", "is {new} in color", "is a {new} one", "has a {new} color"),
    "pattern": ("is {new}", "is {new} and not {old}", "has a {new} pattern", "has a {new} design"),
    "sleeve": ("is {new}", "is {new} instead of {old}", "is a {new} one"),
    "length": ("is {new}", "is {new} in length", "is more {new}"),
    "neck": ("has a {new}", "has a {new} and no {old}", "with a {new}"),
}
GARMENT_WORDINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("pattern", "striped"): ("has stripes", "has broad stripes on it"),
    ("pattern", "dotted"): ("has dots", "is polka dotted"),
    ("pattern", "checked"): ("has checks", "is checked like a tablecloth"),
    ("pattern", "plain"): ("has no pattern", "is plain without print"),
    ("sleeve", "sleeveless"): ("has no sleeves", "is without sleeves"),
    ("sleeve", "short-sleeved"): ("has short sleeves",),
    ("sleeve", "long-sleeved"): ("has long sleeves", "has longer sleeves"),
    ("length", "long"): ("is longer", "has a longer cut"),
    ("length", "short"): ("is shorter", "has a shorter cut"),
    ("neck", "v-neck"): ("has a deep v neckline",),
    ("neck", "round-neck"): ("has a round neckline",),
}
# {some} and {the} are the shapes of the target ("a star", "the stars"); {them} and {are} agree with their number.
SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "count": ("show {new} {shapes}", "there {are} {new} now", "have {new} of them instead of {old}"),
    "size": ("make {them} {new}", "{the} {are} {new}", "same but {new}"),
    "fill": ("make {them} {new}", "{the} {are} {new} instead of {old}", "draw {them} {new}"),
    "colour": ("change the color to {new}", "make {them} {new}", "{the} {are} {new} instead of {old}"),
    "shape": ("show {some} instead", "replace {the_old} with {some}", "use {some} and no {old_shapes}"),
    "background": ("on a {new} background", "change the background to {new}", "the background is {new} not {old}"),
}


def garment_captions(reference: Garment, target: Garment, rng: random.Random) -> list[str]:
    """Returns the captions of two people for a change. Of several changes one person, but never both, may omit one."""
    names = changed(reference, target)
    rng.shuffle(names)
    kept = [names, names]
    if len(names) > 1 and rng.random() < 0.5:
        kept[rng.randrange(2)] = names[:-1]
    return [_joined([_garment_phrase(name, reference, target, rng) for name in part], rng) for part in kept]


def _garment_phrase(name: str, reference: Garment, target: Garment, rng: random.Random) -> str:
    new, old = attributes(target)[name], attributes(reference)[name]
    phrases = (*GARMENT_PHRASES[name], *GARMENT_WORDINGS.get((name, new), ()))
    return rng.choice(phrases).format(new=new, old=old)


def scene_caption(reference: Scene, target: Scene, rng: random.Random) -> str:
    """Returns the caption of one person for a change; sometimes it describes the whole target instead."""
    if rng.random() < 0.15:
        return f"show {caption(target, 8)}"
    names = changed(reference, target)
    rng.shuffle(names)
    return _joined([_scene_phrase(name, reference, target, rng) for name in names], rng)


def _scene_phrase(name: str, reference: Scene, target: Scene, rng: random.Random) -> str:
    one = target.count == "one"
    shapes, old_shapes = plural(target.shape, target.count), plural(reference.shape, reference.count)
    return rng.choice(SCENE_PHRASES[name]).format(
        new=attributes(target)[name],
        old=attributes(reference)[name],
        shapes=shapes,
        old_shapes=old_shapes,
        some=f"a {shapes}" if one else shapes,
        the=f"the {shapes}",
        the_old=f"the {old_shapes}",
        them="it" if one else "them",
        are="is" if one else "are",
    )


def change_text(reference: Thing, target: Thing, rng: random.Random) -> str:
    """Returns a modification text of one person, or two joined ones, that leads from the reference to the target."""
    if isinstance(reference, Scene) and isinstance(target, Scene):
        return scene_caption(reference, target, rng)
    assert isinstance(reference, Garment)
    assert isinstance(target, Garment)
    captions = garment_captions(reference, target, rng)
    return rng.choice([" and ".join(captions), " and ".join(captions[::-1]), *captions])


def _joined(phrases: list[str], rng: random.Random) -> str:
    return rng.choice((" and ", ", ", " and ")).join(phrases)
