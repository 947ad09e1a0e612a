"""Plans a benchmark in CIRCO's layout. Several images answer a query, and the annotations name all of them."""

from __future__ import annotations

import random
from typing import Any

from demo.draw.attributes import Scene, changed, draw_thing, vary
from demo.draw.captions import plural
from demo.draw.changes import scene_caption
from demo.draw.plan import DrawnImage, Plan
from demo.settings import CircoSize

FOLDER = "COCO2017_unlabeled"
IDS = 600_000
# CIRCO's name for a change of each attribute.
ASPECTS = {
    "count": "cardinality",
    "size": "comparative_statement",
    "fill": "direct_addressing",
    "colour": "compare_change",
    "shape": "compare_change",
    "background": "spatial_relations_background",
}


def plan_circo(size: CircoSize) -> Plan:
    """Plans the images of both splits, in one gallery, and their annotations. Equal settings give equal plans.

    An image answers a query if it shows exactly the same scene as the first target of the query.
    """
    rng = random.Random(f"circo {size.seed}")
    drawn = [_query_scenes(size, rng) for _ in range(size.val_queries + size.test_queries)]
    scenes = [scene for query in drawn for scene in query]
    ids = rng.sample(range(1, IDS), len(scenes))
    showing: dict[Scene, list[int]] = {}
    for number, scene in zip(ids, scenes, strict=True):
        showing.setdefault(scene, []).append(number)
    plan = Plan()
    for number, scene in zip(ids, scenes, strict=True):
        path = f"{FOLDER}/unlabeled2017/{number:012d}.jpg"
        plan.images.append(DrawnImage(path, scene, seed=f"{rng.getrandbits(64):x}"))
    starts = iter(ids)
    rows = [_row([next(starts) for _ in query], query, showing, rng) for query in drawn]
    plan.texts["annotations/val.json"] = _numbered(rows[: size.val_queries])
    hidden = ("target_img_id", "gt_img_ids", "semantic_aspects")
    public = [{key: value for key, value in row.items() if key not in hidden} for row in rows[size.val_queries :]]
    plan.texts["annotations/test.json"] = _numbered(public)
    listed = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in ids]
    plan.texts[f"{FOLDER}/annotations/image_info_unlabeled2017.json"] = {"images": listed}
    return plan


def _query_scenes(size: CircoSize, rng: random.Random) -> list[Scene]:
    """Returns the scenes of one query: the reference, the target, repeated, and scenes that differ little from them."""
    reference = draw_thing(Scene, rng)
    target = vary(reference, rng.choice((1, 2)), rng)
    near = [vary(rng.choice((reference, target)), 1, rng) for _ in range(size.near_misses)]
    return [reference, *[target] * rng.randint(1, size.most_targets), *near]


def _row(ids: list[int], scenes: list[Scene], showing: dict[Scene, list[int]], rng: random.Random) -> dict[str, Any]:
    """Returns one annotated query. The second of its scenes is the target."""
    reference, target = scenes[:2]
    names = changed(reference, target)
    also = ["statement_with_conjunction"] if len(names) > 1 else []
    kept = "shape" if "shape" in names else reference.shape
    return {
        "reference_img_id": ids[0],
        "target_img_id": ids[1],
        "relative_caption": scene_caption(reference, target, rng),
        "shared_concept": plural(kept, "two"),
        "gt_img_ids": [ids[1], *(number for number in showing[target] if number != ids[1])],
        "semantic_aspects": sorted({ASPECTS[name] for name in names}) + also,
    }


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "id": number} for number, row in enumerate(rows)]


def chance(candidates: int, targets: int, k: int) -> float:
    """Returns the expected AP@k of a random order of the candidates, from 0 to 1.

    The probability of a target at rank i is targets / candidates. Given that, the probability of a target at each
    rank before it is (targets - 1) / (candidates - 1).
    """
    before = (targets - 1) / (candidates - 1)
    found = sum((1 + place * before) / (place + 1) for place in range(min(k, candidates)))
    return targets / candidates * found / min(targets, k)
