"""Changes of data and models between two runs: the right stages run again, and a message names the file."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.faults.project import Run
from tests.faults.tiny import Tiny
from tests.faults.workers import own_copies
from tests.scale.names import DATASET, OWN

_RAW = Path("data", "raw", DATASET)
_TAR = Path("train", "00000.tar")
_CAPTIONS = Path("cirr", "captions", "cap.rc2.train.json")
_READ_DATA = {"dedup", "caption", "match", "triplets", "checkpoint", "bank", "gallery", "filter", "train"}
_OF_WEIGHTS = {"checkpoint", "bank", "gallery", "filter", "train"}


def _changed(tiny: Tiny, place: Path, file: Path, change: Callable[[Path], None]) -> tuple[Path, Run]:
    """Changes a file of the data in a copy of the finished project, which then runs."""
    root = tiny.copy(place / "project", finished=True)
    own_copies(root / _RAW)
    path = root / _RAW / file
    content = path.read_bytes()
    path.unlink()  # of the copy; the file itself may be a link to that of all
    path.write_bytes(content)
    change(path)
    return root, tiny.run(root)


def _ran(run: Run, expected: set[str], may: set[str] = frozenset()) -> list[str]:
    """What is wrong unless these stages ran again, and no others but those that may."""
    ran = {stage.partition("@")[0] for stage in run.starts}
    found = [f"ended with {run.process.returncode}: {' / '.join(run.lines[-10:])}"] if run.process.returncode else []
    found += [f"does not run {stage} again" for stage in expected - ran]
    return found + [f"runs {stage} again" for stage in ran - expected - may]


def _rewritten(path: Path, change: Callable[[int, bytes], bytes | None]) -> None:
    """Writes a tar again; `change` returns the content of a member by its number, or None to leave it out."""
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar.getmembers()]
    with tarfile.open(path, "w") as tar:
        for number, (name, content) in enumerate(members):
            found = change(number, content)
            if found is not None:
                info = tarfile.TarInfo(name)
                info.size = len(found)
                tar.addfile(info, io.BytesIO(found))


def image_replaced(tiny: Tiny, place: Path) -> list[str]:
    """An image gets the pixels of another one: what reads images runs again."""

    def swap(path: Path) -> None:
        contents: list[bytes] = []
        _rewritten(path, lambda _, content: contents.append(content) or content)
        _rewritten(path, lambda number, content: contents[9] if number == 3 else content)

    _, run = _changed(tiny, place, _TAR, swap)
    return _ran(run, {"dedup", "match", "bank"}, _READ_DATA)


def image_removed(tiny: Tiny, place: Path) -> list[str]:
    """A training image is not there: the message names it."""
    root, run = _changed(tiny, place, _TAR, lambda path: _rewritten(path, lambda n, c: None if n == 3 else c))
    return _refused(tiny, root, run, "000000003")


def image_broken(tiny: Tiny, place: Path) -> list[str]:
    """A training image is cut: the message names it."""
    cut = lambda path: _rewritten(path, lambda n, content: content[:40] if n == 3 else content)  # noqa: E731
    root, run = _changed(tiny, place, _TAR, cut)
    return _refused(tiny, root, run, "000000003")


def annotations_cut(tiny: Tiny, place: Path) -> list[str]:
    """The training captions are cut: the message names the file; whole again, nothing but their stages runs."""
    root, run = _changed(tiny, place, _CAPTIONS, lambda path: os.truncate(path, path.stat().st_size // 2))
    found = _refused(tiny, root, run, _CAPTIONS.name)
    path = root / _RAW / _CAPTIONS
    path.write_bytes((tiny.whole / _RAW / _CAPTIONS).read_bytes())
    return found + tiny.not_whole(root, tiny.run(root))


def annotation_changed(tiny: Tiny, place: Path) -> list[str]:
    """A text of the validation split changes: what reads the data set runs, what learns from equal inputs does not."""

    def change(path: Path) -> None:
        records = json.loads(path.read_text(encoding="utf-8"))
        records[0]["caption"] = "is red"
        path.write_text(json.dumps(records), encoding="utf-8")

    _, run = _changed(tiny, place, _CAPTIONS.with_name("cap.rc2.val.json"), change)
    return _ran(run, {"gallery"}, _READ_DATA)


def weights_replaced(tiny: Tiny, place: Path) -> list[str]:
    """Other weights of stage 1: the stages from `checkpoint` on run again, those before do not."""
    root = tiny.copy(place / "project", finished=True)
    path = root / "data" / "models" / DATASET / "stage1" / OWN / "stage1.pt"
    content = torch.load(path, weights_only=True)
    _shift(content)
    torch.save(content, path)
    return _ran(tiny.run(root), _OF_WEIGHTS)


def _shift(content: dict) -> bool:
    """Changes the first tensor of floating point in a nested dictionary."""
    for name, value in content.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            content[name] = value + 0.01
            return True
        if isinstance(value, dict) and _shift(value):
            return True
    return False


def weights_cut(tiny: Tiny, place: Path) -> list[str]:
    """The weights of stage 1 are cut: the message names the file."""
    root = tiny.copy(place / "project", finished=True)
    path = root / "data" / "models" / DATASET / "stage1" / OWN / "stage1.pt"
    os.truncate(path, path.stat().st_size // 2)
    return _refused(tiny, root, tiny.run(root), path.name)


def out_removed(tiny: Tiny, place: Path) -> list[str]:
    """An out and its copies in the cache and in the work folder are gone: its stage alone runs again."""
    root = tiny.copy(place / "project", finished=True)
    for path in sorted((root / "data" / "bank" / DATASET / OWN).iterdir()):
        path.unlink()
    run = tiny.run(root)
    return tiny.not_whole(root, run) + _ran(run, set(), {"bank"})


def _refused(tiny: Tiny, root: Path, run: Run, word: str) -> list[str]:
    """What is wrong unless the run ends with an error that names the file; outs of other data are as they were."""
    return [line for line in tiny.not_refused(root, run, word) if "partial" not in line]


CHANGES = {
    "an image replaced between two runs": image_replaced,
    "an image removed": image_removed,
    "an image broken": image_broken,
    "annotations cut, and whole again": annotations_cut,
    "an annotation of val changed": annotation_changed,
    "weights of stage 1 replaced": weights_replaced,
    "weights of stage 1 cut": weights_cut,
    "an out removed": out_removed,
}
