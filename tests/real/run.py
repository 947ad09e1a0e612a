"""The whole pipeline once on real annotations, measured stage by stage: `make real`."""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.memory import resident, watched
from tests.pipeline.conftest import ENVIRONMENT, Project, copy_repository
from tests.real.folders import ABSENT, REAL, ROOT, draw
from tests.real.models import write_models
from tests.real.page import StageCost, render, with_section

DATASETS = {"real_fiq": "FashionIQ", "real_cirr": "CIRR"}
_LAYOUTS = {"real_fiq": "fashioniq", "real_cirr": "cirr"}
_RUNNING = re.compile(r"Running stage '([^']+)'")
# FashionIQ's published window; CIRR has fewer train images here than the start of its window.
_WINDOW = [10_000, 20_000]


def main() -> None:
    """Draws the data sets, runs the pipeline and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="96x128", help="size of the images, WxH (default 96x128)")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the page to write into")
    arguments = parser.parse_args()
    if not REAL.is_dir():
        sys.exit(f"make real: {ABSENT}")
    with tempfile.TemporaryDirectory(prefix="spn4cir-real-") as scratch:
        project = prepare(Path(scratch), arguments.size)
        started = time.monotonic()
        costs, dvc = measure(project)
        minutes = (time.monotonic() - started) / 60
        section = render(costs, DATASETS, arguments.size, minutes, dvc)
        page: Path = arguments.page
        page.write_text(with_section(page.read_text(encoding="utf-8"), section), encoding="utf-8")
        print(f"{section}\n{page}: written", flush=True)  # before 100,000 files are removed, which takes minutes


def prepare(scratch: Path, size: str) -> Project:
    """Makes a copy of the project with both data sets, tiny models and one epoch."""
    project = copy_repository(scratch / "project")
    for dataset, layout in _LAYOUTS.items():
        print(f"draw {DATASETS[dataset]}", flush=True)
        root = draw(layout, scratch / layout, size)
        where = ("--layout", layout, "--path", str(root), "--like", dataset.replace("real", "demo"), "--no-check")
        print(project.run("spn4cir", "add-dataset", dataset, *where).stdout, flush=True)
        write_models(project.root / "data" / "models" / dataset)
    project.edit("params.yaml", _choose)
    project.commit("the real data sets")
    return project


def _choose(params: dict) -> None:
    params["run"].update(datasets=list(DATASETS), models=["clip"], submit=["real_cirr"], benchmarks=[])
    params["match"]["real_fiq"]["window"]["clip"] = _WINDOW
    params["match"]["real_cirr"]["window"]["clip"] = [400, 800]
    for dataset in DATASETS:
        params["caption"][dataset].update(images="split", max_new_tokens=6, batch_size=256)
        params["checkpoint"][dataset]["clip"]["train"].update(epochs=1, batch_size=128)
        params["train"][dataset]["clip"].update(epochs=1, batch_size=256)
        params["bank"][dataset]["clip"]["batch_size"] = 256


def measure(project: Project) -> tuple[list[StageCost], float]:
    """Runs the pipeline. Returns the cost of each stage, and the peak of DVC's own process in MB."""
    command = ("dvc", "repro", "dvc.yaml")
    # Line by line; without DVC's check for updates, whose process would keep the pipe open.
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": "1", "CI": "1"}
    with subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        costs: list[StageCost] = []
        name, started = "", time.monotonic()
        with watched(process.pid, resident) as peaks:
            for line in process.stdout:
                print(line, end="", flush=True)
                if found := _RUNNING.search(line):
                    costs += _ended(name, started, peaks)
                    name, started = found[1], time.monotonic()
            costs += _ended(name, started, peaks)
            own = peaks("own")
    if process.returncode:
        sys.exit("make real: dvc repro failed; its output is above")
    return costs, own


def _ended(name: str, started: float, peaks: Callable[[str], float]) -> list[StageCost]:
    return [StageCost(name, time.monotonic() - started, peaks("below"))] if name else []


if __name__ == "__main__":
    main()
