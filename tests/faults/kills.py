"""Kills `dvc repro` at random moments, starts it again, and compares with an uninterrupted run.

A kill is SIGKILL for the whole process group. Half of the moments are drawn over time, and half within a stage that was
hit least. A run in which all stages that remain were hit more often than others ends by itself. Everything is stored
after each kill, so the command continues after an interruption.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spn4cir.json_files import read_json, write_json
from tests.faults.checks import (
    FinalFiles,
    Progress,
    Reference,
    Watcher,
    differing_outs,
    progress_of,
    repeated,
)
from tests.faults.parts import STATES, code_version
from tests.faults.project import REPRO, Run, make_project, orphans, processes_in, warm_environment
from tests.faults.report import Row, store
from tests.faults.stored_lines import StoredLines

_AHEAD = 8  # stages among which a moment is chosen: a run is killed several times before it ends
_UNEVEN = 1  # a stage is not chosen if it was hit more often than this beyond the one that was hit least
_SHARE = 0.12  # of the time of an uninterrupted run: the longest time to a kill that is drawn over time
_HANG = 900.0  # without a line, in seconds: also a busy machine ends a stage of this project in less
_LAST_LINES = 15
_SECONDS_BETWEEN_LOOKS = 0.01


class Moment(NamedTuple):
    """When to kill: some seconds after a stage starts, or after the command starts if `stage` is empty."""

    stage: str
    delay: float


@dataclass
class Campaign:
    """The kills and what they showed.

    Attributes:
        place: folder of the projects and of the state.
        seed: determines the moments.
        environment: environment of the commands.
        make: makes the project.
        command: the command that is killed and started again.
        code: a hash of the code; the state of other code is not used.
        kills: the kills so far, each with its moment, the stage that was hit and the faults.
        rounds: the faults at the end of each run that ended, after some kills.
        seconds: duration of the commands so far.
    """

    place: Path
    seed: int
    environment: Mapping[str, str]
    make: Callable[[Path], None] = make_project
    command: Sequence[str] = REPRO
    code: str = field(default_factory=code_version)
    kills: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    _began: float = 0.0

    @property
    def root(self) -> Path:
        """The project that is killed."""
        return self.place / "killed"

    def run(self, kills: int) -> None:
        """Kills until `kills` kills are counted, and lets the last run end."""
        for folder in (self.place / "whole", self.root):
            for left in processes_in(folder):  # of a campaign that was killed itself
                left.kill()
        self._read()
        self._began = time.monotonic() - self.seconds
        self._write()
        reference = self._reference()
        while len(self.kills) < kills or self.root.exists():
            counted = len(self.kills)
            self._round(reference, kills)
            if self.rounds[-1] and len(self.kills) == counted:
                return  # it fails without a kill, and would fail again

    def rows(self) -> list[Row]:
        """The counts by stage, and those of the runs that ended."""
        hit = Counter(kill["hit"] for kill in self.kills)
        survived = Counter(kill["hit"] for kill in self.kills if not kill["faults"])
        mended = sum(kill["mended"] for kill in self.kills)
        rows = [Row(f"`kill -9`: {name}", hit[name], survived[name]) for name in sorted(hit)]
        ended = Row("outs equal to those of an uninterrupted run", len(self.rounds), self.rounds.count([]))
        return [*rows, ended._replace(note=f"`spn4cir doctor` mended {mended} leftovers")]

    def faults(self) -> list[str]:
        """All faults, with what repeats them."""
        lines = [
            f"kill {number} (seed {self.seed}, {kill['moment'][1]:.3f} s after "
            f"{kill['moment'][0] or 'the start'}, in {kill['hit']}): {fault}"
            for number, kill in enumerate(self.kills)
            for fault in kill["faults"]
        ]
        return lines + [f"run {number}: {fault}" for number, faults in enumerate(self.rounds) for fault in faults]

    def _reference(self) -> Reference:
        """The uninterrupted run, from its file if it has ended."""
        path, project = self.place / "reference.json", self.place / "project"
        if not path.is_file():
            for folder in (project, self.place / "whole", self.root):
                shutil.rmtree(folder, ignore_errors=True)
            self.make(project)
            shutil.copytree(project, self.place / "whole", symlinks=True)
            run = Run(self.place / "whole", self.environment, self.command)
            kill_at(run, None)
            if run.process.returncode:
                sys.exit("\n".join(["the uninterrupted run failed:", *run.lines[-_LAST_LINES:]]))
            found = Reference.of(self.place / "whole", run, project)
            write_json(path, vars(found))
            seconds = found.seconds
            print(f"uninterrupted run: {len(seconds)} stages, {sum(seconds.values()):.0f} s", flush=True)
        return Reference(**read_json(path))

    def _round(self, reference: Reference, kills: int) -> None:
        """Starts the project again and again, until it ends by itself."""
        if not self.root.exists():
            shutil.copytree(self.place / "project", self.root, symlinks=True)
        files = FinalFiles(self.root, reference.before, reference.files)
        completed: set[str] = set()
        before: Progress | None = None
        stored = StoredLines({})
        started_again: list[str] = []  # the faults of the last kill in this round
        while True:
            faults, mended = self._doctor()
            moment = self._moment(reference, completed) if len(self.kills) < kills else None
            with Watcher(files) as watcher:
                run = Run(self.root, self.environment, self.command)
                killed = kill_at(run, moment)
            started_again += faults + (repeated(before, run.lines, not killed) if before else []) + stored.faults()
            found = list(dict.fromkeys([*watcher.found, *files.faults()]))
            if not killed:
                self._end(run, reference, found)
                return
            assert moment is not None
            completed |= set(list(run.starts)[:-1])
            started_again = found + [f"runs on: {command}" for command in orphans(self.root)]
            before = progress_of(self.root, run.stage, run.lines) if run.stage else None
            stored = StoredLines.marked(self.root)
            hit = kind(run.stage) if run.stage else "before the first stage"
            self.kills.append({"moment": list(moment), "hit": hit, "faults": started_again, "mended": mended})
            self._write()
            after = moment.stage or "the start"
            print(f"kill {len(self.kills)}/{kills}: {moment.delay:.2f} s after {after}: {hit}", flush=True)

    def _end(self, run: Run, reference: Reference, found: list[str]) -> None:
        """Counts a run that ended by itself; the project is kept if something is wrong."""
        status = run.process.returncode
        found = found + ([f"ended with {status}: " + " / ".join(run.lines[-_LAST_LINES:])] if status else [])
        self.rounds.append(found or differing_outs(self.root, reference.outs))
        self._write()
        print(f"run {len(self.rounds)} ended: {len(self.rounds[-1])} faults", flush=True)
        if self.rounds[-1]:
            self.root.rename(self.place / f"failed-{self.seed}-{len(self.rounds)}")
        else:
            shutil.rmtree(self.root)

    def _doctor(self) -> tuple[list[str], int]:
        """Runs `spn4cir doctor`, as the make targets do. Returns what remains, and how much was mended."""
        command = ["spn4cir", "doctor"]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=120)
        lines = (done.stdout + done.stderr).splitlines()
        return ([f"doctor: {line}" for line in lines], 0) if done.returncode else ([], len(lines))

    def _moment(self, reference: Reference, completed: set[str]) -> Moment | None:
        """Returns the next moment; None if the run shall end by itself."""
        # With the runs that ended: a run that is faster than the uninterrupted one can end before a moment is reached.
        draw = random.Random(f"{self.seed}-{len(self.kills)}-{len(self.rounds)}")
        if draw.random() < 0.5:
            return Moment("", draw.uniform(0, _SHARE * sum(reference.seconds.values())))
        hits = Counter(kill["hit"] for kill in self.kills)
        most = min(hits[kind(name)] for name in reference.seconds) + _UNEVEN
        ahead = [name for name in reference.seconds if name not in completed and hits[kind(name)] <= most]
        if not ahead:
            return None
        name = min(ahead[:_AHEAD], key=lambda name: (hits[kind(name)], draw.random()))
        return Moment(name, draw.uniform(0, reference.seconds[name]))

    def _read(self) -> None:
        path = self.place / "state.json"
        state = read_json(path) if path.is_file() else {}
        if state.get("code", self.code) != self.code:
            shutil.rmtree(self.place)
        elif state.get("seed") == self.seed:
            self.kills, self.rounds, self.seconds = state["kills"], state["rounds"], state["seconds"]
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    def _write(self) -> None:
        self.seconds = time.monotonic() - self._began
        keys = ("code", "seed", "kills", "rounds", "seconds")
        write_json(self.place / "state.json", {key: getattr(self, key) for key in keys})


def kill_at(run: Run, moment: Moment | None) -> bool:
    """Kills the run at the moment. Returns False if it ended before; a run that hangs is killed too, and then fails."""
    while run.process.poll() is None:
        now = time.monotonic()
        start = run.began if moment and not moment.stage else run.starts.get(moment.stage) if moment else None
        if moment and start is not None and now - start >= moment.delay:
            run.kill()
            return True
        if now - run.last > _HANG:
            run.kill()
            run.lines.append(f"no line in {_HANG:.0f} s")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    run.end()
    return False


def kind(stage: str) -> str:
    """The name of a stage without its data set and family."""
    return f"`{stage.rpartition(':')[2].partition('@')[0]}`"


def main() -> None:
    """Runs the campaign and stores the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of kills (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="determines the moments (default 1)")
    parser.add_argument("--place", type=Path, default=STATES / "kills")
    arguments = parser.parse_args()
    with warm_environment() as environment:
        campaign = Campaign(arguments.place.resolve(), arguments.seed, environment)
        campaign.run(arguments.kills)
    command = f"python -m tests.faults.kills --kills {arguments.kills} --seed {arguments.seed}"
    print(store("kills", command, campaign.seconds, campaign.rows()))
    if faults := campaign.faults():
        sys.exit("\n".join([f"{len(faults)} faults; projects that failed are kept in {campaign.place}:", *faults]))
    shutil.rmtree(campaign.place)


if __name__ == "__main__":
    main()
