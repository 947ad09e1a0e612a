"""Plans a data set in CIRR's layout."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

from demo.draw.attributes import Scene, changed, draw_thing, vary
from demo.draw.changes import scene_caption
from demo.draw.plan import Plan
from demo.settings import CirrSize

GROUP_SIZE = 6
# The train images are stored in numbered folders.
TRAIN_FOLDERS = 4
FOLDERS = {"train": "train", "val": "dev", "test1": "test1"}
# A pair that differs in more attributes is too different for a modification text.
MOST_CHANGES = 4


def plan_cirr(size: CirrSize) -> Plan:
    """Plans the images, in groups of six, and their annotations. Equal settings give equal plans."""
    plan = Plan()
    rng = random.Random(f"cirr {size.seed}")
    pair_id = 0
    for split, groups, triplets, copies in (
        ("train", size.train_groups, size.train_triplets, size.duplicates),
        ("val", size.val_groups, size.val_triplets, 0),
        ("test1", size.test1_groups, size.test1_triplets, 0),
    ):
        members = [_group_names(split, number) for number in range(groups)]
        names = [name for group in members for name in group]
        scenes = [scene for _ in members for scene in _group(rng)]
        paths = {name: _path(split, name, number // GROUP_SIZE) for number, name in enumerate(names)}
        shown = plan.add([paths[name][2:] for name in names], scenes, copies, rng)
        by_name = {name: scene for name, scene in zip(names, shown, strict=True) if isinstance(scene, Scene)}
        rows = _triplets(members, by_name, triplets, rng)
        for row in rows:
            row["pairid"], pair_id = pair_id, pair_id + 1
        plan.texts[f"cirr/captions/cap.rc2.{split}.json"] = [_published(row, split) for row in rows]
        plan.texts[f"cirr/image_splits/split.rc2.{split}.json"] = paths
    return plan


def _group_names(split: str, number: int) -> list[str]:
    """Returns the six names of one group, in CIRR's form."""
    prefix = {"train": "train", "val": "dev", "test1": "test1"}[split]
    return [f"{prefix}-{number}-{image // 2}-img{image % 2}" for image in range(GROUP_SIZE)]


def _path(split: str, name: str, group: int) -> str:
    folder = f"{FOLDERS[split]}/{group % TRAIN_FOLDERS}" if split == "train" else FOLDERS[split]
    return f"./{folder}/{name}.png"


def _group(rng: random.Random) -> list[Scene]:
    """Draws six different scenes that differ in few attributes."""
    base = draw_thing(Scene, rng)
    scenes = [base]
    while len(scenes) < GROUP_SIZE:
        scene = vary(base, rng.choice((1, 1, 2)), rng)
        if scene not in scenes:
            scenes.append(scene)
    rng.shuffle(scenes)
    return scenes


def _triplets(
    groups: list[list[str]], scenes: dict[str, Scene], count: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Returns `count` triplets, distributed evenly over the groups."""
    pairs = [_pairs(group, scenes, rng) for group in groups]
    rows = []
    for number in range(count):
        group = number % len(groups)
        reference, target = pairs[group][(number // len(groups)) % len(pairs[group])]
        rows.append(_row(group, groups[group], reference, target, scenes, rng))
    return rows


def _pairs(group: list[str], scenes: dict[str, Scene], rng: random.Random) -> list[tuple[str, str]]:
    """Returns the ordered pairs of a group that differ in 1 to `MOST_CHANGES` attributes, in random order."""
    pairs = [(a, b) for a, b in permutations(group, 2) if 0 < len(changed(scenes[a], scenes[b])) <= MOST_CHANGES]
    rng.shuffle(pairs)
    return pairs


def _row(
    number: int, members: list[str], reference: str, target: str, scenes: dict[str, Scene], rng: random.Random
) -> dict[str, Any]:
    """Returns one annotated triplet."""
    soft = {name: 0.5 for name in members if scenes[name] == scenes[target] and name not in (reference, target)}
    return {
        "pairid": 0,
        "reference": reference,
        "target_hard": target,
        "target_soft": {target: 1.0, **soft},
        "caption": scene_caption(scenes[reference], scenes[target], rng),
        "img_set": {
            "id": number,
            "members": members,
            "reference_rank": members.index(reference),
            "target_rank": members.index(target),
        },
    }


def _published(row: dict[str, Any], split: str) -> dict[str, Any]:
    """Returns the row as it is published: without its target in test1."""
    if split != "test1":
        return row
    image_set = {key: value for key, value in row["img_set"].items() if key != "target_rank"}
    return {"pairid": row["pairid"], "reference": row["reference"], "caption": row["caption"], "img_set": image_set}
