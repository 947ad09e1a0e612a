"""Tiny data sets in the published layouts, drawn in milliseconds."""

import csv
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CATEGORIES = ("dress", "shirt", "toptee")
SPLITS = ("train", "val", "test")
CHANGES = ("is redder", "has blue stripes", "is longer", "has no sleeves", "shows two of them", "is seen from above")
GROUP = 6


def draw(path: Path, number: int, size: tuple[int, int] = (32, 32)) -> Path:
    """Writes an image of 4 x 4 coloured blocks that depend on `number`. Images of two numbers differ, also as JPEGs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_drawn(number, size, path.suffix))
    return path


@cache
def _drawn(number: int, size: tuple[int, int], suffix: str) -> bytes:
    blocks = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    image = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
    image.save(encoded, Image.registered_extensions()[suffix.lower()])
    return encoded.getvalue()


def write(path: Path, value: Any) -> Path:
    """Writes JSON, and creates its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def change(path: Path, edit: Any) -> Path:
    """Edits a JSON file: `edit` changes the value in place or returns another one."""
    value = json.loads(path.read_text(encoding="utf-8"))
    changed = edit(value)
    return write(path, value if changed is None else changed)


def write_fashioniq(root: Path, images: int = 6, suffix: str = ".png") -> Path:
    """Writes a FashionIQ root: `images` for each category and split, each the reference of one triplet.

    Names are `{category}-{split}-{number}`; the target of image i is image i + 1. Test triplets have no target.
    """
    for place, category in enumerate(CATEGORIES):
        for block, split in enumerate(SPLITS):
            names = [f"{category}-{split}-{number}" for number in range(images)]
            for number, name in enumerate(names):
                draw(root / "images" / f"{name}{suffix}", (place * len(SPLITS) + block) * images + number)
            write(root / "image_splits" / f"split.{category}.{split}.json", names)
            triplets = [_fashioniq_triplet(names, number, split) for number in range(images)]
            write(root / "captions" / f"cap.{category}.{split}.json", triplets)
    return root


def _fashioniq_triplet(names: list[str], number: int, split: str) -> dict[str, Any]:
    captions = [CHANGES[number % len(CHANGES)], CHANGES[(number + 1) % len(CHANGES)]]
    target = {} if split == "test" else {"target": names[(number + 1) % len(names)]}
    return {**target, "candidate": names[number], "captions": captions}


def write_folder(root: Path, images: int = 40) -> Path:
    """Writes images in two sub-folders with `triplets.csv`, in which each is the reference of a row.

    The target of image i is image i + 1; ten rows share a group. The last quarter of the rows is for validation.
    """
    names = [f"{kind}/{number}.png" for kind in ("mugs", "pots") for number in range(images // 2)]
    rows = [["reference", "target", "text", "split", "group"]]
    for number, name in enumerate(names):
        draw(root / name, 20_000 + number)
        split = "val" if 4 * number >= 3 * images else "train"
        text = f"{CHANGES[number % len(CHANGES)]}, and larger"
        rows.append([name, names[(number + 1) % images], text, split, f"group {number // 10}"])
    with (root / "triplets.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return root


IMAGE_CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image_cells(folder: Path, count: int, first: int = 30_000) -> list[dict[str, Any]]:
    """Returns cells of images as the library `datasets` writes them."""
    cells = []
    for number in range(count):
        draw(folder / "drawn.png", first + number)
        cells.append({"bytes": (folder / "drawn.png").read_bytes(), "path": f"{number}.png"})
    (folder / "drawn.png").unlink()
    return cells


def write_parquet(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    """Writes a parquet file. Columns of images have the type of the library `datasets`, and its metadata if given."""
    arrays = {
        name: pa.array(values, IMAGE_CELL) if any(isinstance(value, dict) for value in values) else pa.array(values)
        for name, values in columns.items()
    }
    table = pa.table(arrays)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=16)
    return path


def write_table(root: Path, images: int = 40) -> Path:
    """Writes rows that contain their images, in files of two splits with the hub's names.

    The target of image i is image i + 1; the last quarter of the rows is for validation.
    """
    root.mkdir(parents=True, exist_ok=True)
    cells = image_cells(root, images)
    kind = {"_type": "Image"}
    features = {"reference_image": kind, "target_image": kind, "text": {"dtype": "string", "_type": "Value"}}
    for name, rows in (
        ("train", range(3 * images // 4)),
        ("validation", range(3 * images // 4, images)),
    ):
        columns = {
            "reference_image": [cells[row] for row in rows],
            "target_image": [cells[(row + 1) % images] for row in rows],
            "text": [f"{CHANGES[row % len(CHANGES)]}, and larger" for row in rows],
        }
        write_parquet(root / "data" / f"{name}-00000-of-00001.parquet", columns, features)
    return root


def write_cirr(root: Path, train_groups: int = 2, val_groups: int = 2, test_groups: int = 9) -> Path:
    """Writes a CIRR root of groups of six similar images, each the reference of one pair.

    Names are `{train, dev or test1}-{group}-0-img{number}`; the target of a group's image i is its image i + 1. The
    default 9 test groups give a test1 of 54 images, enough for lists of 50.
    """
    first = 0
    for split, folder, groups in (
        ("train", "train", train_groups),
        ("val", "dev", val_groups),
        ("test1", "test1", test_groups),
    ):
        members = [[f"{folder}-{group}-0-img{number}" for number in range(GROUP)] for group in range(groups)]
        places: dict[str, str] = {}
        for group, names in enumerate(members):
            inner = f"{folder}/{group % 100}" if split == "train" else folder
            for name in names:
                places[name] = f"./{inner}/{name}.png"
                draw(root / places[name], 10_000 + first + len(places))
        triplets = [
            _cirr_triplet(names, number, group, first + group * GROUP + number, split)
            for group, names in enumerate(members)
            for number in range(GROUP)
        ]
        write(root / "cirr" / "image_splits" / f"split.rc2.{split}.json", places)
        write(root / "cirr" / "captions" / f"cap.rc2.{split}.json", triplets)
        first += groups * GROUP
    return root


def _cirr_triplet(names: list[str], number: int, group: int, pair_id: int, split: str) -> dict[str, Any]:
    target = names[(number + 1) % GROUP]
    triplet: dict[str, Any] = {
        "pairid": pair_id,
        "reference": names[number],
        "caption": CHANGES[number],
        "img_set": {"id": group, "members": names, "reference_rank": 0},
    }
    if split != "test1":
        triplet |= {"target_hard": target, "target_soft": {target: 1.0}}
        triplet["img_set"] |= {"target_rank": 1}
    return triplet
