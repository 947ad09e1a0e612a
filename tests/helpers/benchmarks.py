"""Tiny benchmarks in the published layouts."""

from pathlib import Path
from typing import Any

from tests.helpers.layouts import draw, write

ASPECTS = ("addition", "negation", "cardinality")
FIRST_ID = 7


def write_circo(root: Path, images: int = 60, val: int = 6, test: int = 4) -> Path:
    """A CIRCO root: images `FIRST_ID * n`, n from 1; query i begins at the i-th and is answered by i % 3 + 1 others."""
    ids = [FIRST_ID * number for number in range(1, images + 1)]
    folder = root / "COCO2017_unlabeled"
    listed = [{"id": number, "file_name": f"{number:012d}.jpg", "height": 32, "width": 32} for number in ids]
    for number, image in enumerate(listed):
        draw(folder / "unlabeled2017" / str(image["file_name"]), number)
    write(folder / "annotations" / "image_info_unlabeled2017.json", {"info": {}, "images": listed})
    for split, count in (("val", val), ("test", test)):
        records = [_circo_record(ids, number, split == "val") for number in range(count)]
        write(root / "annotations" / f"{split}.json", records)
    return root


def _circo_record(ids: list[int], number: int, with_target: bool) -> dict[str, Any]:
    targets = [ids[(number + step) % len(ids)] for step in range(1, number % 3 + 2)]
    answers = {
        "target_img_id": targets[0],
        "gt_img_ids": targets,
        "semantic_aspects": [ASPECTS[number % 3], ASPECTS[(number + 1) % 3]],
    }
    return {
        "reference_img_id": ids[number],
        "relative_caption": f"has {number} more",
        "shared_concept": f"a dog number {number}",
        "id": number,
        **(answers if with_target else {}),
    }
