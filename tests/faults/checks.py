"""What must be true of a project after a kill: files that are whole, equal outs, and little work that is repeated."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from ruamel.yaml import YAML

from spn4cir.positives.digest_file import read_digests
from spn4cir.positives.equal_images import DIGEST_BYTES
from tests.faults.project import Run

# scored.json holds the day of the scoring, which the report shows.
HOLDS_TIME = re.compile(r"/scored\.json$|^data/report/")
_FOLDERS = ("data", "metrics")
# Work in progress is rewritten by its stage, and speeds differ in every run; neither is an out.
_NOT_FINAL = (Path("data", "work"), Path("data", "speed"))
_EPOCH = re.compile(r"(?:epoch (\d+): loss|stage \d: resumed after epoch (\d+)/)")
_RESUMED = re.compile(r"stage \d: resumed after epoch (\d+)/")
_IMAGES = re.compile(r"\w+: resumed after ([\d,]+) of [\d,]+ images")
_SECONDS_BETWEEN_SCANS = 0.3


def outs_of(root: Path) -> dict[str, str]:
    """The hashes of all outs in DVC's lock files, by path, without those that hold a time."""
    found = {}
    for path in (root / "dvc.lock", root / "demo" / "dvc.lock"):
        lock = YAML(typ="safe").load(path) if path.is_file() else {}
        for stage in lock.get("stages", {}).values():
            found.update({out["path"]: out["md5"] for out in stage.get("outs", ())})
    return {path: md5 for path, md5 in found.items() if not HOLDS_TIME.search(path)}


def differing_outs(root: Path, whole: dict[str, str]) -> list[str]:
    """Says which outs differ from those of an uninterrupted run."""
    found = outs_of(root)
    lines = [f"{path}: differs from that of an uninterrupted run" for path in whole if found.get(path) != whole[path]]
    return lines + [f"{path}: is an out of no uninterrupted run" for path in found.keys() - whole.keys()]


@dataclass
class Reference:
    """An uninterrupted run.

    Attributes:
        seconds: duration of each stage, DVC's work after it included, in the order of the run.
        outs: hashes of the outs by path.
        before: hashes by path of the files that the project holds before it runs.
        files: hashes by path of the files after the run.
    """

    seconds: dict[str, float]
    outs: dict[str, str]
    before: dict[str, str]
    files: dict[str, str]

    @classmethod
    def of(cls, root: Path, run: Run, fresh: Path) -> "Reference":
        """The reference from a project whose run has ended now, and a copy that has not run."""
        starts = [*run.starts.values(), time.monotonic()]
        seconds = {name: starts[i + 1] - starts[i] for i, name in enumerate(run.starts)}
        return cls(seconds, outs_of(root), hashes(fresh), hashes(root))


class FinalFiles:
    """The files under their final names: each must be as before or after an uninterrupted run, at any moment.

    Args:
        root: the project.
        versions: hashes by path of whole files, as `hashes` returns them.
    """

    def __init__(self, root: Path, *versions: dict[str, str]) -> None:
        self._root, self._versions = root, versions
        self._seen: set[tuple[str, int, int, int]] = set()

    def faults(self) -> list[str]:
        """The files that are partial or unknown; a file that has not changed since it was found whole is not read."""
        found = []
        for name, path in _final_files(self._root):
            try:
                status = path.stat()
                key = (name, status.st_ino, status.st_mtime_ns, status.st_size)
                if key in self._seen:
                    continue
                content = path.read_bytes()
            except OSError:
                continue  # removed in between
            if self._is_whole(name, content):
                self._seen.add(key)
            elif path.is_file():
                found.append(f"{name}: is partial under its final name ({len(content)} bytes)")
        return found

    def _is_whole(self, name: str, content: bytes) -> bool:
        if HOLDS_TIME.search(name):
            return content.rstrip().endswith((b"}", b"</html>"))
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return any(found == version.get(name) for version in self._versions)


def hashes(root: Path) -> dict[str, str]:
    """The md5 of each file under its final name."""
    return {
        name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for name, path in _final_files(root)
    }


def _final_files(root: Path) -> list[tuple[str, Path]]:
    """The files by their names in the project, also those in a folder of data that is a link."""
    found = []
    for folder in _FOLDERS:
        for path in _files_below(root / folder):
            name = path.relative_to(root)
            temporary = any(part.startswith(".") for part in name.parts)
            if not temporary and not any(place in name.parents for place in _NOT_FINAL) and path.is_file():
                found.append((str(name), path))
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names)


class Watcher(Thread):
    """Looks at the final files again and again while the project runs.

    Attributes:
        found: the faults so far.
    """

    def __init__(self, files: FinalFiles) -> None:
        super().__init__(daemon=True)
        self.found: list[str] = []
        self._files, self._end = files, Event()

    def run(self) -> None:
        while not self._end.wait(_SECONDS_BETWEEN_SCANS):
            self.found.extend(self._files.faults())

    def __enter__(self) -> "Watcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


class Progress(NamedTuple):
    """How far a stage was when it was killed.

    Attributes:
        stage: DVC's name of the stage.
        epochs: number of epochs that it had reported.
        images: number of images whose features or digests it had stored.
    """

    stage: str
    epochs: int
    images: int


def progress_of(root: Path, stage: str, lines: Sequence[str]) -> Progress:
    """The progress of the stage that ran last, from its lines and its work folder."""
    epochs = [int(found[1] or found[2]) for line in section(lines, stage) or () if (found := _EPOCH.match(line))]
    kind, _, pair = stage.rpartition(":")[2].partition("@")
    work = root / "data" / "work" / kind / pair
    noted = [json.loads(path.read_bytes()) for path in work.glob("*/done.json")]
    stored = [each["rows"] if kind == "match" else each["images"] for each in noted]
    stored += [len(read_digests(path)) // DIGEST_BYTES for path in work.glob("*/digests.bin")]
    return Progress(stage, max(epochs, default=0), max(stored, default=0))


def repeated(before: Progress, lines: Sequence[str], complete: bool) -> list[str]:
    """Says if the next run repeated more than an epoch or batch.

    Args:
        before: the progress at the kill.
        lines: output of the next run.
        complete: whether the next run ended by itself; the stage may else have been killed before it resumed.
    """
    own = section(lines, before.stage)
    if own is None or not (complete or any(map(_EPOCH.match, own)) or has_ended(lines, before.stage)):
        return []
    resumed = [int(found[1]) for line in own if (found := _RESUMED.match(line))]
    images = [int(found[1].replace(",", "")) for line in own if (found := _IMAGES.match(line))]
    found = []
    if before.epochs - max(resumed, default=0) > 1:
        found.append(f"{before.stage}: repeats epochs from {max(resumed, default=0)}, {before.epochs} had ended")
    if before.images > max(images, default=0):
        found.append(f"{before.stage}: repeats images from {max(images, default=0)}, {before.images} were stored")
    return found


def section(lines: Sequence[str], stage: str) -> list[str] | None:
    """The lines that a stage printed; None if it did not run."""
    start = next((i + 1 for i, line in enumerate(lines) if line.startswith(f"Running stage '{stage}'")), None)
    if start is None:
        return None
    return list(takewhile(lambda line: not line.startswith("Running stage "), lines[start:]))


def has_ended(lines: Sequence[str], stage: str) -> bool:
    """Whether another stage ran after this one."""
    started = [line for line in lines if line.startswith("Running stage ")]
    return bool(started) and not started[-1].startswith(f"Running stage '{stage}'")
