"""The measured steps: the commands of the stages, as dvc.yaml has them, and an index of the pool's images."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import environ, pathsep
from pathlib import Path

from ruamel.yaml import YAML

from tests.helpers.memory import own_memory, watched
from tests.scale.growth import PRODUCTS, StepCost
from tests.scale.names import DATASET, OWN, POOLED, ROOT

# glibc returns blocks of this size when they are freed. By default it raises the size up to 32 MB, and keeps blocks
# below it: by chance, several hundred MB in an epoch of `train`.
BLOCK_MB = 16
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(BLOCK_MB << 20)}
# Of the programs' output on an error.
_SHOWN = 3000


@dataclass(frozen=True)
class Step:
    """A command that is measured.

    Attributes:
        names: names of its parts, in order.
        command: returns the command, from the folder of the project.
        stage: name of its stage, whose unfinished work is removed first; empty for none.
        ends: returns the time at which each part but the last ended, from the folder of the project.
        needs: the steps that must run before it in a new workspace; None: it cannot be measured alone.
    """

    names: tuple[str, ...]
    command: Callable[[Path], Sequence[str]]
    stage: str = ""
    ends: Callable[[Path], Sequence[float]] = lambda project: ()
    needs: "tuple[Step, ...] | None" = None


def _of_stage(title: str, stage: str, family: str = "", needs: tuple[Step, ...] | None = None) -> Step:
    return Step((title,), lambda project: stage_command(project, stage, family), stage, needs=needs)


def stage_command(project: Path, stage: str, family: str = "") -> list[str]:
    """Returns the command of a stage in dvc.yaml, for the drawn data set."""
    command = YAML(typ="safe").load(project / "dvc.yaml")["stages"][stage]["cmd"]
    return str(command).replace("${item.dataset}", DATASET).replace("${item.family}", family).split()


def _index(project: Path) -> list[str]:
    weights = stage1_file(project)
    return ["python", "-m", "tests.scale.index", str(weights), f"data/pool/{DATASET}", f"data/index/{DATASET}"]


def stage1_file(project: Path) -> Path:
    """Returns the weights that the stage `checkpoint` writes, relative to the project."""
    return Path("data", "checkpoint", DATASET, POOLED, "stage1.pt")


def _features_written(project: Path) -> list[float]:
    """Returns when `match` stored the features of all images, after which it compares them."""
    return [path.stat().st_mtime for path in (project / "data" / "work" / "match").rglob("features.npy")]


_WEIGHTS = _of_stage("checkpoint: weights that exist", "checkpoint", POOLED)
STEPS = (
    _of_stage("dedup", "dedup", needs=()),
    _of_stage("caption: captions that exist", "caption"),
    Step(("match: encoding", PRODUCTS[0]), lambda project: stage_command(project, "match"), "match", _features_written),
    _of_stage("triplets of matched pairs", "triplets", OWN),
    _of_stage("triplets of the pool", "triplets", POOLED),
    _WEIGHTS,
    _of_stage("bank", "bank", POOLED),
    _of_stage("gallery: images of the queries", "gallery", POOLED),
    _of_stage("filter: off", "filter", POOLED),
    _of_stage(PRODUCTS[1], "train", POOLED),
    Step(("index",), _index, needs=(_WEIGHTS,)),
)


def measure(step: Step, project: Path, images: int, log: Path) -> list[StepCost]:
    """Runs a step and returns the cost of each part; peak memory is that of the step, and disk is in the last part."""
    before, started = disk_megabytes(project / "data"), time.time()
    peak, seconds = run(step.command(project), project, log)
    ends = [0.0, *(end - started for end in step.ends(project)), seconds]
    added = disk_megabytes(project / "data") - before
    return [
        StepCost(
            name, images, round(until - since, 3), round(peak, 1), round(added if name == step.names[-1] else 0, 2)
        )
        for name, since, until in zip(step.names, ends[:-1], ends[1:], strict=True)
    ]


def run(command: Sequence[str], project: Path, log: Path) -> tuple[float, float]:
    """Runs a command with the code in the folder `project`; returns its peak memory in MB, and its seconds.

    The output goes to a file, whose end is printed if the command fails. Raises SystemExit then.
    """
    variables = {**environ, **_ALLOCATOR, "PYTHONPATH": pathsep.join((str(project), str(ROOT))), "PATH": _programs()}
    started = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(command, cwd=project, env=variables, stdout=output, stderr=output) as process,
        watched(process.pid, own_memory) as peaks,
    ):
        process.wait()
        seconds, peak = time.monotonic() - started, peaks("all")
    if process.returncode:
        print(log.read_text(encoding="utf-8")[-_SHOWN:], file=sys.stderr)
        sys.exit(f"make scale: {' '.join(command)} failed in {project}; its output is above")
    return peak, seconds


def _programs() -> str:
    """Returns PATH, with the folder of this Python first if PATH lacks it: the stages' commands begin with `python`."""
    own = str(Path(sys.executable).parent)
    path = environ.get("PATH", "")
    return path if own in path.split(pathsep) else pathsep.join((own, path))


def disk_megabytes(folder: Path) -> float:
    """Returns the disk space of the files below a folder in MB; a file with several names counts once."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file():
            status = path.stat()
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values()) / 1e6
