"""Makes the data set of emoji: `python -m demo.emoji.dataset --out data/raw/demo_emoji`.

The folder has CIRR's layout, with captions of the training images in the published form. `emoji.json` contains the
metadata of each image and its split, from which the small models are trained.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.emoji.changes import Change, draw_changes
from demo.emoji.packages import OPENMOJI, RESVG, Package, fetch, read_members, run_tool
from demo.emoji.records import Emoji, read_emoji
from demo.settings import EmojiSize, read_settings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.json_files import write_json

METADATA, IMAGES = "data/openmoji.json", "color/svg/"
NOTICE = {
    "package": str(OPENMOJI),
    "authors": "OpenMoji, the open-source emoji and icon project (openmoji.org)",
    "licence": "CC BY-SA 4.0, creativecommons.org/licenses/by-sa/4.0",
    "changed": "rendered as PNG on white",
}
LIBRARY = ("index.mjs", "index_bg.wasm")
RENDER = Path(__file__).with_name("rasterise.mjs")
# The word count of the caption files, which the captions do not keep to.
CAPTIONS = "mm_data/cirr/cirr_it_llava_8.json"
FOLDERS = {"train": "train", "val": "dev"}


@dataclass(frozen=True)
class Annotated:
    """The emoji of a split, and the changes between them."""

    emoji: list[Emoji]
    changes: list[Change]


def split_emoji(emoji: Sequence[Emoji], size: EmojiSize) -> dict[str, Annotated]:
    """Divides the emoji into train and val at random, and draws the changes of each. Equal settings divide equally."""
    rng = random.Random(f"emoji {size.seed}")
    shuffled = rng.sample(list(emoji), len(emoji))
    count = round(size.val_share * len(shuffled))
    parts = {"train": (shuffled[count:], size.train_triplets), "val": (shuffled[:count], size.val_triplets)}
    splits = {}
    for split, (part, triplets) in parts.items():
        things = round(size.things_share * triplets)
        people = draw_changes([each for each in part if each.skin], triplets - things, rng)
        splits[split] = Annotated(part, people + draw_changes([e for e in part if not e.skin], things, rng))
    return splits


def image_name(emoji: Emoji) -> str:
    """Returns the name of an emoji's image: the words of its annotation and its code."""
    words = re.sub(r"[^a-z0-9]+", "-", emoji.annotation.lower()).strip("-")
    return f"{words}-{emoji.hexcode.lower()}"


def image_path(emoji: Emoji, split: str) -> str:
    """Returns the path of an emoji's image in the data set."""
    return f"{FOLDERS[split]}/{emoji.kind}/{image_name(emoji)}.png"


def write_annotations(splits: Mapping[str, Annotated], folder: Path) -> None:
    """Writes CIRR's annotation files, the captions of the training images, and `emoji.json`."""
    for place in ("cirr/captions", "cirr/image_splits", Path(CAPTIONS).parent):
        (folder / place).mkdir(parents=True)
    pair_id = 0
    for split, part in splits.items():
        paths = {image_name(each): f"./{image_path(each, split)}" for each in part.emoji}
        rows = [_row(change, number) for number, change in enumerate(part.changes, start=pair_id)]
        pair_id += len(rows)
        write_json(folder / f"cirr/image_splits/split.rc2.{split}.json", paths)
        write_json(folder / f"cirr/captions/cap.rc2.{split}.json", rows)
    captions = [
        {"image_id": image_name(each), "caption": each.caption, "image_path": image_path(each, "train")}
        for each in splits["train"].emoji
    ]
    write_json(folder / CAPTIONS, captions)
    everything = [(split, each) for split, part in splits.items() for each in part.emoji]
    write_json(
        folder / "emoji.json",
        [{"image": image_path(each, split), "split": split, **asdict(each)} for split, each in everything],
    )


def _row(change: Change, pair_id: int) -> dict[str, Any]:
    """Returns an annotated triplet in CIRR's form."""
    reference, target = image_name(change.reference), image_name(change.target)
    members = [image_name(each) for each in change.group]
    ranks = {"reference_rank": members.index(reference), "target_rank": members.index(target)}
    return {
        "pairid": pair_id,
        "reference": reference,
        "target_hard": target,
        "target_soft": {target: 1.0},
        "caption": change.text,
        "img_set": {"id": pair_id, "members": members, **ranks},
    }


def render(svgs: Mapping[str, bytes], library: Path, work: Path, side: int) -> dict[str, Path]:
    """Renders SVG files with Node.js and the unpacked library; returns the PNG files by name of the SVG."""
    source, out = work / "svg", work / "png"
    source.mkdir()
    out.mkdir()
    for code, content in svgs.items():
        (source / f"{code}.svg").write_bytes(content)
    command = ["node", str(RENDER), str(library), str(source), str(out), str(side)]
    run_tool(command, "rendering the emoji", "it needs Node.js 18 or later")
    return {code: out / f"{code}.png" for code in svgs}


def distinct(emoji: Sequence[Emoji], images: Mapping[str, Path]) -> list[Emoji]:
    """Returns the emoji whose images differ; of equal images, one that names a gender is kept.

    OpenMoji draws many persons without a gender as it draws the men.
    """
    kept: dict[bytes, Emoji] = {}
    for each in emoji:
        content = images[each.hexcode].read_bytes()
        if content not in kept or kept[content].who == "person":
            kept[content] = each
    return list(kept.values())


def _is_needed(name: str) -> bool:
    return name == METADATA or (name.startswith(IMAGES) and name.endswith(".svg"))


def unpack(tarballs: Mapping[Package, Path], work: Path) -> tuple[list[Emoji], dict[str, bytes]]:
    """Reads the emoji and their SVG files by code; writes the renderer's files to `work`."""
    for name, content in read_members(tarballs[RESVG], LIBRARY.__contains__):
        (work / name).write_bytes(content)
    files = dict(read_members(tarballs[OPENMOJI], _is_needed))
    try:
        records = json.loads(files[METADATA])
    except (KeyError, ValueError):
        raise InputError(f"{tarballs[OPENMOJI]}: lacks a valid {METADATA}; use the pinned {OPENMOJI}") from None
    emoji = [each for each in read_emoji(records) if f"{IMAGES}{each.hexcode}.svg" in files]
    svgs = {each.hexcode: files[f"{IMAGES}{each.hexcode}.svg"] for each in emoji}
    return emoji, svgs


def write_dataset(size: EmojiSize, tarballs: Mapping[Package, Path], out: Path) -> None:
    """Writes the data set to the folder `out`, whose earlier content is removed."""
    with tempfile.TemporaryDirectory() as temporary, atomic_folder(out) as folder:
        work = Path(temporary)
        emoji, svgs = unpack(tarballs, work)
        images = render(svgs, work, work, size.image_size)
        splits = split_emoji(distinct(emoji, images), size)
        for split, each in ((split, each) for split, part in splits.items() for each in part.emoji):
            place = folder / image_path(each, split)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(images[each.hexcode], place)
        write_json(folder / "source.json", NOTICE, indent=2)
        write_annotations(splits, folder)
        counts = ", ".join(
            f"{split} {len(p.emoji):,} images, {len(p.changes):,} triplets" for split, p in splits.items()
        )
        print(f"{out.name}: {counts}")


def main() -> None:
    """Fetches the packages and writes the data set with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; replaced if it exists")
    arguments = parser.parse_args()
    try:
        size = read_settings().draw.demo_emoji
        with tempfile.TemporaryDirectory() as temporary:
            packages = (OPENMOJI, RESVG)
            tarballs = {each: fetch(each, Path(temporary) / str(number)) for number, each in enumerate(packages)}
            write_dataset(size, tarballs, arguments.out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
