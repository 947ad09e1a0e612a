"""The tutorial's images, from a finished demo: `python -m docsite.tutorial_images` after `make demo`.

They are small and committed; run it again after a change of the demo's data.
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image

from docsite.tiles import Tile, TileRow, draw_rows, save_small
from spn4cir.config.load import load_params
from spn4cir.datasets import open_layout
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.json_files import read_json
from spn4cir.positives.partners import ranks_of
from spn4cir.positives.rank_samples import read_samples, strips
from spn4cir.types import Triplet

DATASET, FAMILY = "demo_fiq", "clip"
OUT = Path("docs") / "images"
_SHOWN = 4
# Title and three queries of the contact sheet.
_SHEET_HEIGHT = 38 + 3 * 156


class Demo:
    """The outs of a finished `make demo`.

    Args:
        root: the folder of its `params.yaml`.
    """

    def __init__(self, root: Path) -> None:
        self.params = load_params(root / "params.yaml")
        self.data = root / "data"
        self.layout = open_layout("fashioniq", self.data / "raw" / DATASET, "error")
        self.images = self.layout.training_gallery()

    def file(self, stage: str, *parts: str) -> Path:
        """Returns the path of a file that a stage wrote. Raises InputError if it does not exist."""
        path = self.data.joinpath(stage, DATASET, *parts)
        if not path.is_file():
            raise InputError(f"{path}: no such file; run make demo first")
        return path

    def image(self, name: str, *lines: str, frame: bool = False) -> Tile:
        """A training image with lines under it."""
        return Tile(self.images.paths[self.images.index[name]], lines, frame)


def duplicates(demo: Demo) -> list[TileRow]:
    """Images that occur under two names."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, row in read_json(demo.file("dedup", "optimized_images.json"))[2].items():
        names[row].append(name)
    pairs = [twins for twins in names.values() if len(twins) > 1][:2]
    return [
        TileRow(
            "",
            [
                demo.image(name, name, note)
                for twins in pairs
                for name, note in zip(twins, ("kept", "left out"), strict=False)
            ],
        )
    ]


def captions(demo: Demo) -> list[TileRow]:
    """Images with their captions."""
    records = read_json(demo.file("caption", "fashioniq_it_llava_5.json"))
    chosen = records[:: len(records) // _SHOWN][:_SHOWN]
    return [TileRow("", [demo.image(each["image_id"], each["caption"]) for each in chosen])]


def ranks(demo: Demo) -> list[TileRow]:
    """Images at similarity ranks of one image: the nearest, and the middle of the window."""
    found = read_samples(demo.file("match", "ranks.json"))
    sample = found.samples[0]
    window = ranks_of(demo.params.match[DATASET].window[FAMILY], found.images)
    assert window is not None
    by_rank = {each.rank: each for each in sample.neighbours}

    def tiles(place: str, count: int) -> list[Tile]:
        chosen = [by_rank[rank] for rank in strips(window, found.images)[place]][:count]
        return [demo.image(each.name, f"rank {each.rank}", f"similarity {each.similarity:.2f}") for each in chosen]

    return [
        TileRow("reference and its nearest", [demo.image(sample.reference, "rank 0"), *tiles("nearest", _SHOWN - 1)]),
        TileRow(f"the middle of the window, ranks {window[0]} to {window[1]}", tiles("middle of the window", _SHOWN)),
    ]


def annotated(demo: Demo) -> list[TileRow]:
    """Triplets as people (here: the demo) wrote them."""
    return [_triplet(demo, each, "reference", "target") for each in demo.layout.training_triplets()[:2]]


def generated(demo: Demo) -> list[TileRow]:
    """A generated triplet, with both captions."""
    file = demo.file("triplets", FAMILY, f"cap.extend_{FAMILY}.train.json")
    record = read_json(file)[0]
    triplet = demo.layout.read_generated(file)[0]
    return [_triplet(demo, triplet, record["caption1"], record["caption2"])]


def _triplet(demo: Demo, triplet: Triplet, left: str, right: str) -> TileRow:
    assert triplet.target_name is not None
    text = Tile(None, (" / ".join(triplet.captions),))
    return TileRow(
        "", [demo.image(triplet.reference_name, left), text, demo.image(triplet.target_name, right, frame=True)]
    )


def losses(demo: Demo, path: Path) -> None:
    """Both stages' losses, with what a network that knows nothing would have."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    unique = len(read_json(demo.file("dedup", "optimized_images.json"))[0])
    batch = demo.params.checkpoint[DATASET][FAMILY].train.batch_size
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True, layout="constrained")
    for axis, stage, candidates in zip(axes, ("checkpoint", "train"), (batch, unique), strict=True):
        steps = _column(demo.file(stage, FAMILY, "figures", "steps", "loss.tsv"), "loss")
        axis.plot(range(1, len(steps) + 1), steps, color="#3f51b5", linewidth=1.2)
        axis.axhline(math.log(candidates), color="#888888", linestyle="--", linewidth=1)
        axis.text(len(steps), math.log(candidates) + 0.08, f"log {candidates}", ha="right", color="#666666")
        axis.set(
            title=f"stage {1 if stage == 'checkpoint' else 2}: {candidates} candidates", xlabel="step", ylim=(0, None)
        )
    axes[0].set_ylabel("loss")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def _column(path: Path, name: str) -> list[float]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream, delimiter="\t")]


SHEETS: dict[str, Any] = {
    "annotated": annotated,
    "duplicates": duplicates,
    "captions": captions,
    "ranks": ranks,
    "generated": generated,
}


def main(root: Path, out: Path) -> None:
    """Writes every image. Raises InputError when the demo has not run."""
    demo = Demo(root)
    for name, make in SHEETS.items():
        draw_rows(make(demo), out / f"{name}.png")
    losses(demo, out / "losses.png")
    sheet = Image.open(demo.file("validate", FAMILY, "contact_sheet.png"))
    found = sheet.crop((0, 0, sheet.width, _SHEET_HEIGHT))
    save_small(found.resize((found.width * 2 // 3, found.height * 2 // 3)), out / "found.png")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "."), OUT)
    except InputError as error:
        sys.exit(f"error: {error}")
