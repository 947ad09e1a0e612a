"""Tiny benchmarks in the published layouts."""

from pathlib import Path
from typing import Any

from tests.helpers.layouts import draw, write

ASPECTS = ("addition", "negation", "cardinality")
FIRST_ID = 7


def write_circo(root: Path, images: int = 60, val: int = 6, test: int = 4) -> Path:
    """Writes a CIRCO root with images `FIRST_ID * n`, n from 1.

    The reference of query i is the i-th image; i % 3 + 1 other images are its targets.
    """
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


def write_genecis(root: Path, queries: int = 3, distractors: int = 4) -> Path:
    """Writes a GeneCIS root with four tasks.

    The reference of query i is image 10 i + 1, its target the next image; its distractors follow. Images of the
    attribute tasks are 40 x 30; their parts are boxes of 10 x 8 at (5, 4).
    """
    for task in ("focus_attribute", "change_attribute", "focus_object", "change_object"):
        records = []
        for number in range(queries):
            ids = [10 * number + step for step in range(1, distractors + 3)]
            reference, target, *gallery = [_genecis_image(root, image, "attribute" in task) for image in ids]
            condition = f"colour {number}" if "attribute" in task else f"dog {number}"
            records.append({"condition": condition, "gallery": gallery, "reference": reference, "target": target})
        write(root / "genecis" / f"{task}.json", records)
    return root


def _genecis_image(root: Path, number: int, cropped: bool) -> dict[str, Any]:
    if not cropped:
        draw(root / "val2017" / f"{number:012d}.jpg", number)
        return {"val_image_id": number}
    draw(root / "VG_100K_all" / f"{number}.jpg", 1000 + number, (40, 30))
    return {"image_id": number, "instance_bbox": [5, 4, 10, 8]}
