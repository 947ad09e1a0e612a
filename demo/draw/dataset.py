"""Draws a data set of the demo: `python -m demo.draw.dataset demo_fiq --out data/raw/demo_fiq`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from demo.draw.circo import plan_circo
from demo.draw.cirr import plan_cirr
from demo.draw.fashioniq import plan_fashioniq
from demo.draw.plan import Copy, DrawnImage, Plan
from demo.draw.render import render
from demo.settings import Draw, read_settings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.progress import progress

DRAWN = ("demo_circo", "demo_cirr", "demo_fiq")
PROCESSES = 2
# Number of images that a process receives at once.
CHUNK = 64
PALETTE_SIZE = 64
OPACITY = 230


def plan_dataset(name: str, sizes: Draw) -> Plan:
    """Returns the plan of the named data set. Raises InputError for an unknown name."""
    if name == "demo_fiq":
        return plan_fashioniq(sizes.demo_fiq)
    if name == "demo_cirr":
        return plan_cirr(sizes.demo_cirr)
    if name == "demo_circo":
        return plan_circo(sizes.demo_circo)
    raise InputError(f"{name}: no such demo data set; expected one of {', '.join(DRAWN)}")


def draw_image(drawn: DrawnImage) -> Image.Image:
    """Draws the image in the pixel mode of its file."""
    image = render(drawn.thing, drawn.seed)
    if drawn.mode == "P":
        return image.quantize(PALETTE_SIZE)
    if drawn.mode == "RGBA":
        image.putalpha(OPACITY)
    return image


def write_dataset(plan: Plan, root: Path, processes: int = PROCESSES) -> None:
    """Writes all files of the plan to the folder `root`, whose earlier content is removed."""
    with atomic_folder(root) as folder:
        files = [drawn.path for drawn in plan.images] + [copy.path for copy in plan.copies] + list(plan.texts)
        for parent in {(folder / file).parent for file in files}:
            parent.mkdir(parents=True, exist_ok=True)
        for _ in progress(_draw_all(plan.images, folder, processes), len(plan.images), f"draw {root.name}", "images"):
            pass
        for copy in plan.copies:
            _write_copy(copy, folder)
        for file, value in plan.texts.items():
            (folder / file).write_text(json.dumps(value) + "\n", encoding="utf-8")


def _draw_all(images: list[DrawnImage], folder: Path, processes: int) -> Iterator[None]:
    """Draws the files, in parallel processes if there are several, and yields after each."""
    if processes < 2:
        for drawn in images:
            _write_image(drawn, folder)
            yield
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write_image, images, [folder] * len(images), chunksize=CHUNK)


def _write_image(drawn: DrawnImage, folder: Path) -> None:
    draw_image(drawn).save(folder / drawn.path, quality=95)  # only JPEG uses quality


def _write_copy(copy: Copy, folder: Path) -> None:
    if not copy.reencoded:
        shutil.copyfile(folder / copy.original, folder / copy.path)
        return
    with Image.open(folder / copy.original) as image:
        image.save(folder / copy.path, compress_level=1)


def main() -> None:
    """Draws one data set with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=DRAWN)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; replaced if it exists")
    arguments = parser.parse_args()
    try:
        write_dataset(plan_dataset(arguments.dataset, read_settings().draw), arguments.out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
