"""Plans a data set in FashionIQ's layout."""

from __future__ import annotations

import random
import string
from typing import Any

from demo.draw.attributes import Garment, changed, draw_thing
from demo.draw.changes import garment_captions
from demo.draw.plan import Plan
from demo.settings import FashionIQSize

# Number of attributes that differ in a target: mostly one or two, as the captions of people name few.
CHANGES = (1, 1, 2, 2, 2, 3)


def plan_fashioniq(size: FashionIQSize) -> Plan:
    """Plans the images and annotations of the three categories. Equal settings give equal plans."""
    plan = Plan()
    rng = random.Random(f"fashioniq {size.seed}")
    names = _names(rng)
    for category in Garment.VALUES["category"]:
        for split, images, triplets, copies in (
            ("train", size.train_images, size.train_triplets, size.duplicates),
            ("val", size.val_images, size.val_triplets, 0),
            ("test", size.test_images, size.test_triplets, 0),
        ):
            chosen = [next(names) for _ in range(images)]
            rng.shuffle(chosen)
            things = [draw_thing(Garment, rng, category=category) for _ in chosen]
            shown = plan.add([f"images/{name}.png" for name in chosen], things, copies, rng)
            garments = {n: t for n, t in zip(chosen, shown, strict=True) if isinstance(t, Garment)}
            used = _used(chosen, size.train_used if split == "train" else 1.0, copies)
            rows = _triplets({name: garments[name] for name in used}, triplets, rng, with_target=split != "test")
            plan.texts[f"captions/cap.{category}.{split}.json"] = rows
            plan.texts[f"image_splits/split.{category}.{split}.json"] = sorted(chosen)
    return plan


def _names(rng: random.Random) -> Any:
    """Yields distinct names in the form of the shop's product numbers, without end."""
    seen: set[str] = set()
    while True:
        name = "B00" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=7))
        if name not in seen:
            seen.add(name)
            yield name


def _used(names: list[str], share: float, copies: int) -> list[str]:
    """Returns the images that triplets may name: about `share` of the drawn ones, and every copy."""
    drawn = len(names) - copies
    return names[: max(2, round(drawn * share))] + names[drawn:]


def _triplets(
    garments: dict[str, Garment], count: int, rng: random.Random, *, with_target: bool
) -> list[dict[str, Any]]:
    """Returns `count` triplets whose target differs from the reference in few attributes."""
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    names = list(garments)
    while len(rows) < count:
        reference = rng.choice(names)
        target = _partner(reference, garments, rng)
        if (reference, target) in seen and len(seen) < len(names):
            continue
        seen.add((reference, target))
        captions = garment_captions(garments[reference], garments[target], rng)
        row = {"target": target} if with_target else {}
        rows.append({**row, "candidate": reference, "captions": captions})
    return rows


def _partner(reference: str, garments: dict[str, Garment], rng: random.Random) -> str:
    """Chooses a target that differs in a random number of attributes, or in the next larger number that occurs."""
    by_changes: dict[int, list[str]] = {}
    for name, garment in garments.items():
        by_changes.setdefault(len(changed(garments[reference], garment)), []).append(name)
    wished = rng.choice(CHANGES)
    counts = sorted(number for number in by_changes if number > 0)
    if not counts:
        raise ValueError("all garments are equal: no triplet can be made")
    return rng.choice(by_changes[min((n for n in counts if n >= wished), default=counts[-1])])
