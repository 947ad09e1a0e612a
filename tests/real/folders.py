"""Data sets with their real annotations, read in place beside the repository, and a drawn image for every name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "real"
# Folder of each layout's annotations.
ANNOTATIONS = {"fashioniq": "fashion-iq", "cirr": "cirr", "circo": "circo", "genecis": "genecis"}
ABSENT = f"the real annotation files are not at {REAL} (beside the repository)"
_MEMBERS = 6


def draw(layout: str, out: Path, size: str) -> Path:
    """Writes the data set's root: its annotation files, and an image of `size` (W or WxH) for every name."""
    command = [sys.executable, REAL / "draw.py", layout, REAL / ANNOTATIONS[layout], out, "--size", size]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    if layout == "cirr":
        write_train_captions(out)
    return out


def write_train_captions(root: Path) -> None:
    """Makes train captions of CIRR from val's, with their texts: CIRR's own are not among the annotation files.

    Six images of the train split, in the order of its file, replace each group of six images of val; the reference
    and the target are those at the same positions in the group.
    """
    captions, splits = root / "cirr" / "captions", root / "cirr" / "image_splits"
    records: list[dict[str, Any]] = json.loads((captions / "cap.rc2.val.json").read_text(encoding="utf-8"))
    names = list(json.loads((splits / "split.rc2.train.json").read_text(encoding="utf-8")))
    number = {group: n for n, group in enumerate(dict.fromkeys(record["img_set"]["id"] for record in records))}
    for record in records:
        group = record["img_set"]
        first = _MEMBERS * number[group["id"]]
        renamed = dict(zip(group["members"], names[first : first + _MEMBERS], strict=True))
        group["members"] = list(renamed.values())
        record["reference"], record["target_hard"] = renamed[record["reference"]], renamed[record["target_hard"]]
        record["target_soft"] = {record["target_hard"]: 1.0}
    (captions / "cap.rc2.train.json").write_text(json.dumps(records), encoding="utf-8")
