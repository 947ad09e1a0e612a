"""`make demo-models-check`: compares the figures of the demo's small models with the wanted ones, on any machine.

It trains them with several seeds, numbers of threads and processor instructions, and writes docs/demo-models.md.
Finished runs are stored in a file, and a stopped check continues with the missing ones; the page is written after
every run. The file is committed beside the page; its runs of other machines do not count. A run is repeated if its
settings in `demo/params.yaml` change; remove the file after a change of the training code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from demo.check_page import CONDITIONS, SEEDS, Condition, Runs, machine, page
from demo.settings import PARAMS_FILE
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.json_files import read_json, write_json

# A run of the captioner also trains its CLIP.
MODELS = ("captioner", "encoder", "blip", "blip2")
# Difference between the seeds of two runs; larger than that between the seeds of two models.
SHIFT = 100
CORES = 2
RESULTS = Path("docs/demo-models.json")
OUT = Path("docs/demo-models.md")
_SECTIONS = {"captioner": ("images", "clip", "captioner")}
_COMMANDS = {
    "captioner": (
        "demo.models.clip --images {images} --out clip --metrics clip.json",
        "demo.models.llava --images {images} --clip clip --out out --metrics captioner.json",
    ),
    "encoder": ("demo.models.encoder --images {images} --out out.pt --metrics encoder.json",),
    "blip": ("demo.models.base blip --images {images} --clip none --out blip",),
    "blip2": ("demo.models.base blip2 --images {images} --clip none --out blip2",),
}
_MEASURED = {
    "captioner": {"clip": "clip.json", "captioner": "captioner.json"},
    "encoder": {"encoder": "encoder.json"},
    "blip": {"blip": "blip/measured.json"},
    "blip2": {"blip2": "blip2/measured.json"},
}


@dataclass(frozen=True)
class ModelRun:
    """One training.

    Attributes:
        model: name of the model.
        seed: number of the seeds; 0 are those of `demo/params.yaml`.
        condition: threads and instructions of the training.
    """

    model: str
    seed: int
    condition: Condition

    @property
    def key(self) -> str:
        """Name of the run in the file of finished runs."""
        return f"{self.model} {self.seed} {self.condition.name}"


def matrix(models: Sequence[str], seeds: int) -> list[ModelRun]:
    """Returns all runs: each condition with seed 0, then the other seeds without limits, then the others."""
    every = [ModelRun(model, seed, condition) for seed in range(seeds) for model in models for condition in CONDITIONS]
    later = {run: (run.seed > 0) + (run.seed > 0 and bool(run.condition.limits)) for run in every}
    return sorted(every, key=lambda run: (later[run], run.condition.threads))


def settings_of(run: ModelRun, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections of `demo/params.yaml` that determine a run, with its seeds, without the wanted figures."""
    sections = {}
    for name in _SECTIONS.get(run.model, ("images", run.model)):
        section = {key: value for key, value in params[name].items() if not key.startswith("wanted")}
        if name != "images":
            section["seed"] += SHIFT * run.seed
        sections[name] = section
    return sections


def train(run: ModelRun, params: Mapping[str, Any], images: Path, root: Path) -> dict[str, Any]:
    """Trains in a temporary folder, with the commands of the demo's stages. Returns the measurements by model.

    Raises InputError if a command fails.
    """
    shifted = {name: {**params[name], **section} for name, section in settings_of(run, params).items()}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / PARAMS_FILE).parent.mkdir()
        with (folder / PARAMS_FILE).open("w", encoding="utf-8") as stream:
            YAML().dump({**params, **shifted}, stream)
        environment = {**os.environ, **run.condition.environment, "PYTHONPATH": str(root)}
        for command in _COMMANDS[run.model]:
            arguments = [sys.executable, "-m", *(part.format(images=images) for part in command.split())]
            done = subprocess.run(
                arguments, cwd=folder, env=environment, check=False, text=True, capture_output=True, encoding="utf-8"
            )
            if done.returncode:
                raise InputError(f"{run.key}: {command.split()[0]} ended with {done.returncode}: {done.stderr[-500:]}")
        return {name: read_json(folder / file) for name, file in _MEASURED[run.model].items()}


def finished(runs: Sequence[ModelRun], params: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Returns the finished runs of this machine in the file whose settings equal those of the parameters."""
    kept = read_json(path) if path.exists() else {}
    settings = {run.key: settings_of(run, params) for run in runs}
    here = machine()
    return {
        key: value for key, value in kept.items() if value["machine"] == here and settings.get(key) == value["settings"]
    }


def carry_out(
    runs: Sequence[ModelRun], params: Mapping[str, Any], images: Path
) -> Iterator[tuple[ModelRun, dict[str, Any]]]:
    """Trains the runs in their order, those of one thread two at a time; yields each with its measurements."""
    root = Path.cwd()
    for threads, some in groupby(runs, lambda run: run.condition.threads):
        with ThreadPoolExecutor(CORES // threads) as pool:
            waiting = {pool.submit(train, run, params, images, root): run for run in some}
            try:
                for each in as_completed(waiting):
                    yield waiting[each], each.result()
            finally:
                pool.shutdown(cancel_futures=True)


def main() -> None:
    """Trains the missing runs of the matrix and writes the page. Raises InputError if a run fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS, help="models to train")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of seeds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the finished runs")
    arguments = parser.parse_args()
    params = YAML(typ="safe").load(PARAMS_FILE)
    kept = dict(finished(matrix(MODELS, SEEDS), params, arguments.results))
    wanted = [run for run in matrix(arguments.models, arguments.seeds) if run.key not in kept]
    with TemporaryDirectory() as temporary:
        images = Path(temporary) / "images"
        if wanted:
            subprocess.run([sys.executable, "-m", "demo.draw.images", "--out", str(images)], check=True)
        for number, (run, measured) in enumerate(carry_out(wanted, params, images), start=1):
            kept[run.key] = {"machine": machine(), "settings": settings_of(run, params), "measured": measured}
            write_json(arguments.results, kept, indent=1)
            print(f"{number}/{len(wanted)} {run.key}: {measured}", flush=True)
            write_page(kept, params)
    write_page(kept, params)


def write_page(runs: Runs, params: Mapping[str, Any]) -> None:
    """Writes docs/demo-models.md."""
    with atomic_file(OUT) as temporary:
        temporary.write_text(page(runs, params), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
