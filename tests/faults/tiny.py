"""A project whose run takes seconds: one drawn data set in CIRR's layout, tiny networks, the stages up to `train`."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from tests.faults.checks import FinalFiles, Reference, differing_outs
from tests.faults.project import Run
from tests.scale.names import DATASET, OWN, ROOT

IMAGES = 40
TARGET = f"train@{DATASET}-{OWN}"
TINY = ("dvc", "repro", "--no-run-cache", TARGET)
_SHOWN = 12


def make_tiny(place: Path) -> None:
    """Makes the project at `place`, and its data beside it."""
    from tests.scale.workspace import make_workspace  # imports torch

    beside = place.with_name("tiny")
    make_workspace(beside, IMAGES)
    shutil.rmtree(place, ignore_errors=True)
    (beside / "project").rename(place)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, place / name)
    yaml, path = YAML(), place / "params.yaml"
    params = yaml.load(path)
    params["run"].update(models=[OWN])
    params["bank"][DATASET][OWN].update(batch_size=8)
    params["train"][DATASET][OWN].update(epochs=3, batch_size=8)
    yaml.dump(params, path)


@dataclass(frozen=True)
class Tiny:
    """The project, before and after an uninterrupted run.

    Attributes:
        fresh: the project that has not run.
        whole: the project that has run.
        reference: its run.
        environment: the environment of commands.
    """

    fresh: Path
    whole: Path
    reference: Reference
    environment: Mapping[str, str]

    @classmethod
    def make(cls, place: Path, environment: Mapping[str, str]) -> "Tiny":
        """Makes the project in a folder and runs it in a copy."""
        fresh, whole = place / "fresh", place / "whole"
        make_tiny(fresh)
        shutil.copytree(fresh, whole, symlinks=True)
        run = Run(whole, environment, TINY)
        if run.end():
            sys.exit("\n".join(["the uninterrupted run failed:", *run.lines[-_SHOWN:]]))
        return cls(fresh, whole, Reference.of(whole, run, fresh), environment)

    def copy(self, place: Path, finished: bool = False) -> Path:
        """Copies the project, without or with what its run wrote. Returns the place."""
        shutil.copytree(self.whole if finished else self.fresh, place, symlinks=True, dirs_exist_ok=True)
        return place

    def run(self, root: Path, command: Sequence[str] = TINY, **variables: str) -> Run:
        """Runs a command in a copy to its end, with further variables of the environment."""
        run = Run(root, {**self.environment, **variables}, command)
        run.end()
        return run

    def beginning_with(self, code: str, place: Path) -> dict[str, str]:
        """Variables of the environment in which each Python first runs some code, which is stored in a folder."""
        place.mkdir(exist_ok=True)
        (place / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(place), self.environment.get("PYTHONPATH", "")]))}

    def not_whole(self, root: Path, run: Run) -> list[str]:
        """What is wrong after a run that should have ended well."""
        if run.process.returncode:
            return [f"ended with {run.process.returncode}: {' / '.join(run.lines[-_SHOWN:])}"]
        return [*differing_outs(root, self.reference.outs), *self._partial(root)]

    def not_refused(self, root: Path, run: Run, *words: str) -> list[str]:
        """What is wrong after a run that should have ended with an error that contains one of the words."""
        text = "\n".join(run.lines)
        found = [] if run.process.returncode else ["ended with status 0"]
        if "Traceback" in text:
            found.append("printed a traceback")
        if not any(word in text for word in words):
            found.append(f"has no line with {' or '.join(words)}")
        found = [f"{each}: {' / '.join(run.lines[-_SHOWN:])}" for each in found]
        return [*found, *self._partial(root)]

    def _partial(self, root: Path) -> list[str]:
        return FinalFiles(root, self.reference.before, self.reference.files).faults()
