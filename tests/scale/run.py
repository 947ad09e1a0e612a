"""The stages on drawn data sets of growing size, measured: `make scale`.

Costs are stored when a step ends, so the command continues after an interruption.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spn4cir.files import atomic_file
from tests.helpers.machine import machine
from tests.scale.growth import StepCost
from tests.scale.names import ROOT
from tests.scale.page import render
from tests.scale.pool import SIZES as POOLS
from tests.scale.pool import measure_pool
from tests.scale.steps import STEPS, Step, measure
from tests.scale.store import Costs

SIZES = (30_000, 100_000, 300_000)
_FEWEST = 100
_AGAIN = {step.names[0]: step for step in STEPS if step.needs is not None}


def main() -> None:
    """Measures what is missing and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.run", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="numbers of images (default 30000 100000 300000)")
    parser.add_argument("--again", nargs="+", choices=_AGAIN, default=(), help="measure again only these steps, alone")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scale.md")
    parser.add_argument("--results", type=Path, default=ROOT / "metrics" / "scale", help="the folder of the costs")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "scale")
    arguments = parser.parse_args()
    costs, pools = Costs.read(arguments.results / "stages.json"), Costs.read(arguments.results / "dvc.json")
    work = arguments.work.resolve()
    if arguments.again:
        for images in sorted(costs.sizes):
            measure_again([_AGAIN[name] for name in arguments.again], images, costs, work / "again")
        _write_page(arguments.page, costs, pools)
        return
    for images in arguments.sizes:
        measure_size(images, costs, work / str(images))
        _write_page(arguments.page, costs, pools)
    for form, sizes in POOLS.items() if arguments.sizes == SIZES else ():
        for images in sizes:
            measure_pool(form, images, pools, work / "dvc", machine())
    _write_page(arguments.page, costs, pools)


def _write_page(page: Path, costs: Costs, pools: Costs) -> None:
    with atomic_file(page) as temporary:
        temporary.write_text(render(costs, pools), encoding="utf-8")
    print(f"{page}: written", flush=True)


def _make(place: Path, images: int) -> None:
    """Makes the workspace in another process, so that this one stays small."""
    command = (sys.executable, "-m", "tests.scale.workspace", str(place), str(images))
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"make scale: the workspace for {images:,} images was not made; the reason is above")


def measure_size(
    images: int,
    costs: Costs,
    place: Path,
    steps: Sequence[Step] = STEPS,
    make: Callable[[Path, int], None] = _make,
) -> None:
    """Measures the steps that have no cost at this size yet.

    Args:
        images: number of images.
        costs: the known costs, to which those of each step are added when it ends.
        place: the workspace, which is made if it is not there or unfinished, and removed when all steps have costs.
        steps: the steps, in order; each needs the outs of those before.
        make: makes the workspace.
    """
    ready = place / "ready"
    missing = [step for step in steps if not costs.steps(images).issuperset(step.names)]
    if missing and not ready.is_file():
        costs.drop(images)
        missing = list(steps)
        print(f"{images:,} images: draw", flush=True)
        make(place, images)
        ready.touch()
    for step in missing:
        project = place / "project"
        if step.stage:  # a killed run would make the time too short
            shutil.rmtree(project / "data" / "work" / step.stage, ignore_errors=True)
        found = measure(step, project, images, place / "log.txt")
        costs.add(images, found, machine())
        _print(images, found)
    shutil.rmtree(place, ignore_errors=True)


def measure_again(
    steps: Sequence[Step], images: int, costs: Costs, place: Path, make: Callable[[Path, int], None] = _make
) -> None:
    """Replaces the costs of steps, in a workspace that is made for them and removed.

    Args:
        steps: steps that can be measured alone.
        images: a number of images with costs.
        costs: the known costs.
        place: the workspace.
        make: makes the workspace.
    """
    make(place, images)
    project, log = place / "project", place / "log.txt"
    for step in steps:
        for needed in step.needs or ():
            measure(needed, project, images, log)
        found = measure(step, project, images, log)
        costs.replace(images, found, machine())
        _print(images, found)
    shutil.rmtree(place)


def _print(images: int, costs: Sequence[StepCost]) -> None:
    for each in costs:
        print(f"{images:,} images: {each.step}: {each.seconds:.1f} s, {each.megabytes:,.0f} MB", flush=True)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.replace(",", " ").split()
    if not parts or any(not part.isdecimal() or int(part) < _FEWEST for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers of images from {_FEWEST}, as in '3000 10000', got '{text}'")
    return tuple(sorted({int(part) for part in parts}))


if __name__ == "__main__":
    main()
