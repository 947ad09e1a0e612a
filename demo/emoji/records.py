"""The emoji of OpenMoji as properties: what it shows, who it is, skin, hair, colour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar

from spn4cir.errors import InputError

# Groups and subgroups of images that are marks, letters or flags, or whose names describe several people.
LEFT_OUT_GROUPS = frozenset({"flags", "component", "extras-unicode"})
LEFT_OUT_SUBGROUPS = frozenset(
    {
        *("family", "person-symbol", "brand", "queer-symbols", "flags", "alphanum", "keycap", "punctuation"),
        *("currency", "transport-sign", "zodiac", "math", "av-symbol", "religion", "other-symbol", "gender", "warning"),
        *("time", "interaction", "ui-element", "emergency"),
    }
)
HAIR = ("red hair", "curly hair", "white hair", "blond hair", "bald", "beard")
COLOURS = (
    *("light blue", "red", "pink", "orange", "yellow", "green"),
    *("blue", "purple", "brown", "black", "grey", "white"),
)
WHO = re.compile(r"^(man|woman|person|men|women|people)(?: |$)")
# Kinds that join several subgroups, by the first word of these.
MERGED = {"face": "face", "hand": "hand", "hands": "hand"}
TONE = " skin tone"
# Skin of an emoji without a tone, if it has variants with one.
DEFAULT_SKIN = "yellow"
HEXCODE = re.compile(r"[0-9A-F]{2,6}(-[0-9A-F]{2,6})*")


@dataclass(frozen=True)
class Emoji:
    """An image of OpenMoji. A property that does not apply is an empty string.

    Attributes:
        hexcode: code points of the emoji; the name of its file.
        kind: subgroup of the metadata, as `person-role`; `face` and `hand` for all subgroups of faces and of hands.
        annotation: its name in Unicode or OpenMoji.
        tags: further words that describe it.
        name: what it shows, without the other properties.
        who: man, woman, person or their plural.
        skin: skin tone, `yellow` for none.
        hair: colour or kind of the hair.
        colour: colour, if the subgroup contains the thing in several.
    """

    PROPERTIES: ClassVar = ("name", "who", "skin", "hair", "colour")

    hexcode: str
    kind: str
    annotation: str
    tags: tuple[str, ...]
    name: str
    who: str = ""
    skin: str = ""
    hair: str = ""
    colour: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        """The kind, followed by the values of the properties."""
        return self.kind, *(getattr(self, key) for key in self.PROPERTIES)

    @property
    def noun(self) -> str:
        """What it shows, with its colour or who it is: "woman firefighter"."""
        if self.who == "person" and self.name and self.kind in ("person-role", "person-fantasy"):
            return self.name
        return " ".join(filter(None, (self.colour, self.who, self.name)))

    @property
    def details(self) -> tuple[str, ...]:
        """Phrases of the skin and the hair, as far as they apply."""
        hair = {"bald": "no hair", "beard": "a beard"}.get(self.hair, self.hair)
        return tuple(filter(None, (self.skin and f"{self.skin} skin", hair)))

    @property
    def caption(self) -> str:
        """A phrase that names every property: "woman firefighter with dark skin and red hair"."""
        return " with ".join(filter(None, (self.noun, " and ".join(self.details))))


def differing(one: Emoji, other: Emoji) -> tuple[str, ...]:
    """Returns the names of the properties in which two emoji differ."""
    return tuple(key for key in Emoji.PROPERTIES if getattr(one, key) != getattr(other, key))


def read_emoji(records: Sequence[Mapping[str, Any]]) -> list[Emoji]:
    """Returns the emoji to use, in the order of the metadata, each combination of properties once.

    Raises InputError, which names the record, for a record without a required field or with an invalid code.
    """
    used = [record for position, record in enumerate(records) if _is_used(_checked(record, position))]
    nouns = Counter((r["subgroups"], _colour(r["annotation"].strip())[1]) for r in used if _colour(r["annotation"])[0])
    people = {r["annotation"].split(":")[0] for r in used}
    emoji = (_parse(record, nouns, people) for record in used)
    return list({each.values: each for each in reversed(list(emoji))}.values())[::-1]


def _checked(record: Mapping[str, Any], position: int) -> Mapping[str, Any]:
    needed = ("hexcode", "group", "subgroups", "annotation", "tags", "skintone_combination")
    for key in needed:
        if not isinstance(record, Mapping) or not isinstance(record.get(key), str):
            raise InputError(f"data/openmoji.json: record {position} has no text '{key}'; use the pinned openmoji")
    if not HEXCODE.fullmatch(record["hexcode"]):
        raise InputError(f"data/openmoji.json: record {position} has the invalid code '{record['hexcode'][:40]}'")
    return record


def _is_used(record: Mapping[str, Any]) -> bool:
    return (
        record["group"] not in LEFT_OUT_GROUPS
        and record["subgroups"] not in LEFT_OUT_SUBGROUPS
        and record["skintone_combination"] != "multiple"
    )


def _parse(record: Mapping[str, Any], nouns: Mapping[tuple[str, str], int], people: Set[str]) -> Emoji:
    annotation = record["annotation"].strip()
    colour, noun = _colour(annotation)
    if record["group"] == "people-body":
        properties = _person(record, people)
    elif colour and nouns[record["subgroups"], noun] > 1:
        properties = {"name": noun, "colour": colour}
    else:
        properties = {"name": annotation}
    return Emoji(
        hexcode=record["hexcode"],
        kind=MERGED.get(record["subgroups"].split("-")[0], record["subgroups"]),
        annotation=annotation,
        tags=tuple(tag.strip() for tag in record["tags"].split(",") if tag.strip()),
        name=properties["name"],
        who=properties.get("who", ""),
        skin=properties.get("skin", ""),
        hair=properties.get("hair", ""),
        colour=properties.get("colour", ""),
    )


def _person(record: Mapping[str, Any], people: Set[str]) -> dict[str, str]:
    """Returns the properties of a person, a hand or a part of the body."""
    base, _, rest = record["annotation"].strip().partition(": ")
    details = [part for part in rest.split(", ") if part]
    tones = [part.removesuffix(TONE) for part in details if part.endswith(TONE)]
    hair = [part for part in details if part in HAIR]
    others = [part for part in details if not part.endswith(TONE) and part not in HAIR]
    has_skin = record["skintone_combination"] == "single"
    match = WHO.match(base)
    who = match[1] if match else "person" if f"man {base}" in people else ""
    name = base[match.end() :] if match else base
    return {
        "name": " ".join(filter(None, [name, *others])),
        "who": who,
        "skin": (tones[0] if tones else DEFAULT_SKIN) if has_skin else "",
        "hair": hair[0] if hair else "",
    }


def _colour(annotation: str) -> tuple[str, str]:
    """Returns the colour with which a name begins and the rest; without a colour, an empty string and the name."""
    for colour in COLOURS:
        if annotation.startswith(f"{colour} "):
            return colour, annotation.removeprefix(f"{colour} ")
    return "", annotation
