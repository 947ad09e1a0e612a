"""Draws a data set of a given number of images in CIRR's layout, and a pool of the same images.

The images are in tars of 10,000, as img2dataset writes them, and the annotations are five JSON files. The data set and
the pool share the tars. Training images are named by the split file with paths into the tars.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

WORDS = 8
SIDE = 32
IMAGES_PER_TAR = 10_000
# Every 50th image has the bytes of the image before it.
DUPLICATE = 50
VAL_IMAGES, VAL_QUERIES, GROUP = 120, 60, 6
# No part of the training images has this number.
_VAL_SEED = 1 << 32
# Side of the squares of one colour.
_SQUARE = 8
_COLOURS = ("red", "green", "blue", "white", "black", "grey")
_KINDS = ("plain", "striped", "dotted", "old", "new", "large", "small")
_THINGS = ("dress", "shirt", "coat", "house", "car", "dog", "tree", "street", "table", "river")
_VOCABULARY = ("a", "the", "on", "near", "with", "under", *_COLOURS, *_KINDS, *_THINGS)


def draw(root: Path, pool: Path, images: int) -> None:
    """Writes the data set below `root` and the pool below `pool`; both are new folders on one disk."""
    for folder in (root / "train", pool, root / "dev", root / "cirr" / "captions", root / "cirr" / "image_splits"):
        folder.mkdir(parents=True)
    parts: list[list[str]] = []
    for part, first in enumerate(range(0, images, IMAGES_PER_TAR)):
        numbers = range(first, min(first + IMAGES_PER_TAR, images))
        tar = root / "train" / f"{part:05d}.tar"
        parts.append(_write_tar(tar, numbers, part))
        os.link(tar, pool / tar.name)
    names = [name for part in parts for name in part]
    _write_train(root, parts)
    _write_val(root)
    _write_captions(root / "mm_data" / "cirr" / f"cirr_it_llava_{WORDS}.json", names)
    for part, own in enumerate(parts):
        _write_captions(pool / "mm_data" / "zs" / f"cc_it_{part}_llava_{WORDS}.json", own)


def _write_tar(path: Path, numbers: range, seed: int) -> list[str]:
    """Writes images to a tar; returns their names."""
    names = [f"{number:09d}" for number in numbers]
    data = b""
    with tarfile.open(path, "w") as tar:
        for name, number, pixels in zip(names, numbers, _pixels(len(names), seed), strict=True):
            if not data or number % DUPLICATE != DUPLICATE - 1:
                data = _jpeg(pixels)
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return names


def _pixels(images: int, seed: int) -> UInt8[ndarray, "images side side 3"]:
    squares = np.random.default_rng(seed).integers(
        256, size=(images, SIDE // _SQUARE, SIDE // _SQUARE, 3), dtype=np.uint8
    )
    return squares.repeat(_SQUARE, axis=1).repeat(_SQUARE, axis=2)


def _jpeg(pixels: UInt8[ndarray, "side side 3"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def _write_train(root: Path, parts: list[list[str]]) -> None:
    """Writes the split file, and an annotated triplet for each two images."""
    places = {name: f"./train/{part:05d}.tar/{name}.jpg" for part, own in enumerate(parts) for name in own}
    names = list(places)
    pairs = [*zip(names[::2], names[1::2], strict=False), *([(names[-1], names[0])] if len(names) % 2 else [])]
    _write_split(root, "train", places, [_record(pair, number, pair) for number, pair in enumerate(pairs)])


def _write_val(root: Path) -> None:
    names = _write_tar(root / "dev" / "00000.tar", range(VAL_IMAGES), _VAL_SEED)
    places = {f"dev-{name}": f"./dev/00000.tar/{name}.jpg" for name in names}
    own = list(places)
    groups = [own[first : first + GROUP] for first in range(0, len(own), GROUP)]
    pairs = [(groups[number % len(groups)], number // len(groups)) for number in range(VAL_QUERIES)]
    records = [_record(group[at : at + 2], number, group) for number, (group, at) in enumerate(pairs)]
    _write_split(root, "val", places, records)


def _record(pair: list[str] | tuple[str, ...], number: int, group: list[str] | tuple[str, ...]) -> dict[str, object]:
    return {
        "pairid": number,
        "reference": pair[0],
        "target_hard": pair[1],
        "target_soft": {pair[1]: 1.0},
        "caption": f"is {_VOCABULARY[number % len(_VOCABULARY)]}",
        "img_set": {"id": number, "members": list(group)},
    }


def _write_split(root: Path, split: str, places: dict[str, str], records: list[dict[str, object]]) -> None:
    for folder, name, content in (
        ("image_splits", f"split.rc2.{split}.json", places),
        ("captions", f"cap.rc2.{split}.json", records),
    ):
        (root / "cirr" / folder / name).write_text(json.dumps(content), encoding="utf-8")


def _write_captions(path: Path, names: list[str]) -> None:
    """Writes captions of drawn words in the published form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {"image_id": name, "caption": text, "image_path": f"{name}.jpg"}
        for name, text in zip(names, _texts(len(names), int(names[0])), strict=True)
    ]
    path.write_text(json.dumps(records), encoding="utf-8")


def _texts(count: int, seed: int) -> Iterator[str]:
    for row in np.random.default_rng(seed).integers(len(_VOCABULARY), size=(count, WORDS)):
        yield " ".join(_VOCABULARY[word] for word in row)
