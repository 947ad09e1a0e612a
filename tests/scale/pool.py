"""DVC with a pool of many files: as image files, and as tars."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from tests.scale.draw import IMAGES_PER_TAR
from tests.scale.growth import StepCost
from tests.scale.names import ROOT
from tests.scale.steps import run
from tests.scale.store import Costs

FILES, TARS = "image files", "tars"
SIZES = {FILES: (10_000, 100_000), TARS: (10_000, 100_000, 1_000_000)}
COMMANDS = {"first repro": ("dvc", "repro"), "status": ("dvc", "status"), "repro, no change": ("dvc", "repro")}
# Bytes of a drawn image, and of its member of a tar with its header.
IMAGE_BYTES, _MEMBER = 900, 1536
_POOL = "data/pool/${item.dataset}"


def measure_pool(form: str, images: int, costs: Costs, place: Path, machine: str) -> None:
    """Measures DVC on a pool that contains bytes without meaning, and removes it again."""
    steps = {f"{form}: {name}": command for name, command in COMMANDS.items()}
    if costs.steps(images).issuperset(steps):
        return
    shutil.rmtree(place, ignore_errors=True)
    (place / "pool").mkdir(parents=True)
    _write(place / "pool", form, images)
    stages = {name: {"cmd": "true", "deps": ["pool"]} for name in dependents()}
    YAML().dump({"stages": stages}, place / "dvc.yaml")
    run(("dvc", "init", "--no-scm", "--quiet"), place, place / "log.txt")
    found = []
    for step, command in steps.items():
        peak, seconds = run(command, place, place / "log.txt")
        print(f"{images:,} images, {step}: {seconds:.1f} s, {peak:,.0f} MB", flush=True)
        found.append(StepCost(step, images, round(seconds, 3), round(peak, 1), 0.0))
    costs.add(images, found, machine)
    shutil.rmtree(place)


def dependents() -> list[str]:
    """Returns the stages of dvc.yaml that depend on the pool."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return [name for name, stage in stages.items() if _POOL in stage.get("deps", ())]


def _write(pool: Path, form: str, images: int) -> None:
    for first in range(0, images, IMAGES_PER_TAR):
        count = min(IMAGES_PER_TAR, images - first)
        part = f"{first // IMAGES_PER_TAR:05d}"
        if form == TARS:
            (pool / f"{part}.tar").write_bytes(os.urandom(count * _MEMBER))
            continue
        (pool / part).mkdir()
        for number, content in zip(range(first, first + count), _contents(), strict=False):
            (pool / part / f"{number:09d}.jpg").write_bytes(content)


def _contents() -> Iterator[bytes]:
    while True:
        yield os.urandom(IMAGE_BYTES)
