"""Pairs of emoji that share most properties, and modification texts for them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demo.emoji.records import Emoji, differing

# A text names at most this many changes.
MOST_CHANGES = 2
GROUP_SIZE = 6
PLURAL = frozenset({"men", "women", "people"})
# Templates of one changed property, with the values of the reference ({old}) and the target ({new}).
TEMPLATES = {
    "name": ("{new} instead of {old}", "change {old} to {new}", "show {new}", "replace {old} by {new}", "now {new}"),
    "who": ("{new} instead of {old}", "make it {new}", "show {new}", "{old} becomes {new}"),
    "skin": ("with {new} skin", "make the skin {new}", "{new} skin instead of {old}", "the skin is {new}"),
    "hair": ("with {new}", "{new} instead of {old}", "give them {new}", "now with {new}"),
    "colour": ("make it {new}", "in {new}", "{new} instead of {old}", "change the colour to {new}"),
}


@dataclass(frozen=True)
class Change:
    """An annotated triplet; `group` contains the reference, the target and four of their kind."""

    reference: Emoji
    target: Emoji
    text: str
    group: tuple[Emoji, ...]


def draw_changes(emoji: Sequence[Emoji], count: int, rng: random.Random) -> list[Change]:
    """Draws `count` changes between emoji of one split, each pair at most once; fewer if there are no more pairs.

    Every emoji is a reference equally often, to within one, unless its pairs are used up. Kinds of fewer emoji than a
    group has are left out.
    """
    by_kind = defaultdict(list)
    for each in emoji:
        by_kind[each.kind].append(each)
    whole = [each for each in emoji if len(by_kind[each.kind]) >= GROUP_SIZE]
    pairs = {each: _pairs(each, by_kind[each.kind], rng) for each in whole}
    references = [each for each in whole if pairs[each]]
    rng.shuffle(references)
    drawn: list[Change] = []
    for turn in range(max(map(len, pairs.values()), default=0)):
        for reference in references:
            if len(drawn) == count:
                return drawn
            if turn < len(pairs[reference]):
                target = pairs[reference][turn]
                text = change_text(reference, target, rng)
                drawn.append(Change(reference, target, text, _group(reference, target, by_kind[target.kind], rng)))
    return drawn


def _pairs(reference: Emoji, alike: Sequence[Emoji], rng: random.Random) -> list[Emoji]:
    """Returns the possible targets of a reference; the changed properties alternate at random."""
    by_change = defaultdict(list)
    for other in alike:
        changed = differing(reference, other)
        if 0 < len(changed) <= MOST_CHANGES and _can_say(changed, reference, other):
            by_change[changed].append(other)
    for targets in by_change.values():
        rng.shuffle(targets)
    return list(_alternating(list(by_change.values()), rng))


def _alternating(lists: list[list[Emoji]], rng: random.Random) -> Iterator[Emoji]:
    while lists := [each for each in lists if each]:
        rng.shuffle(lists)
        for each in lists:
            yield each.pop()


def _can_say(changed: Sequence[str], reference: Emoji, target: Emoji) -> bool:
    """Whether the reference and the target have a value of each changed property; hair may be new."""
    return all(getattr(target, key) and (getattr(reference, key) or key == "hair") for key in changed)


def change_text(reference: Emoji, target: Emoji, rng: random.Random) -> str:
    """Returns a text that names each changed property, such as "make the skin dark and show cook"."""
    changed = list(differing(reference, target))
    rng.shuffle(changed)
    return " and ".join(_clause(key, getattr(reference, key), getattr(target, key), rng) for key in changed)


def _clause(key: str, old: str, new: str, rng: random.Random) -> str:
    template = rng.choice([each for each in TEMPLATES[key] if old or "{old}" not in each])
    return template.format(old=_phrase(key, old), new=_phrase(key, new))


def _phrase(key: str, value: str) -> str:
    """Returns a value as a text names it."""
    if key == "who":
        return value if value in PLURAL else f"a {value}"
    if key == "hair":
        return {"bald": "no hair", "beard": "a beard"}.get(value, value)
    return value


def _group(reference: Emoji, target: Emoji, alike: Sequence[Emoji], rng: random.Random) -> tuple[Emoji, ...]:
    """Returns the reference, the target and the others of their kind that differ least from the target, shuffled."""
    others = [each for each in alike if each not in (reference, target)]
    rng.shuffle(others)
    others.sort(key=lambda each: len(differing(each, target)))
    members = [reference, target, *others[: GROUP_SIZE - 2]]
    rng.shuffle(members)
    return tuple(members)
