"""Projects with a fault, and the options of `add-dataset`, `recipe`, `train` and `doctor`."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.faults.annotation_cases import NOT_TEXT
from tests.faults.attempts import PASSWORD, Case
from tests.faults.places import Place, spoil
from tests.faults.words import Words, called, filled

KIND = "projects"
_PARAMS, _PIPELINE = "params.yaml", "dvc.yaml"
_ADD = ("add-dataset", "mine", "--layout", "folder", "--path", "{folder}", "--annotations", "{folder}/triplets.csv")
_RECIPE = ("recipe", "plus", "--dataset", "fiq", "--family", "clip")
_TRAIN = ("train", "{folder}", "--annotations", "{folder}/triplets.csv", "--base", "local-dir:folder", "--out", "o")
Row = tuple[str, Words, str, int]


def _inside(words: Words, change: Callable[[Path], object], place: Place) -> Words:
    """A command in the folder of a project, which is changed."""
    project = place.copy("project")
    for name in (_PARAMS, _PIPELINE):
        shutil.copy(project / name, place.work)
    (place.work / ".dvc" / "tmp").mkdir(parents=True)
    made = called(*words)(place)
    change(place.work)
    return made


def _kept(work: Path) -> None:
    """No change."""


def _names() -> Iterator[Row]:
    for name in ("", "1a", "-a", "a b", "../a", "NULL", "é", "a\nb"):
        yield f"the name {name!r}", (*_ADD[:1], *_ADD[2:], "--", name), "is not a valid name", 1


_ADD_ROWS: Sequence[Row] = (
    *_names(),
    ("a name of 300 characters", (*_ADD[:1], "x" * 300, *_ADD[2:]), "xxx", 1),
    ("no layout", _ADD[:2], "--layout", 2),
    ("an unknown layout", (*_ADD, "--layout", "coco"), "coco", 1),
    ("neither path nor repository", (*_ADD[:4],), "--path", 1),
    ("a path and a repository", (*_ADD, "--hub", "a/b"), "--hub", 1),
    ("a repository for another layout", (*_ADD[:4], "--hub", "a/b"), "not read from the hub", 1),
    ("a repository without an owner", ("add-dataset", "mine", "--layout", "table", "--hub", "a b"), "owner/name", 1),
    ("a repository that is a path", ("add-dataset", "mine", "--layout", "table", "--hub", "../../a"), "owner/name", 1),
    ("a path that is not there", (*_ADD, "--path", "gone"), "gone", 1),
    ("a path that is a file", (*_ADD, "--path", "file.txt"), r"file\.txt", 1),
    ("a path that is a link to itself", (*_ADD, "--path", "loop"), "loop", 1),
    ("a path that is empty", (*_ADD[:4], "--path", "folder"), r"error: folder\b", 1),
    ("a path without its annotations", (*_ADD[:4], "--layout", "fashioniq", "--path", "folder"), r"error: folder\b", 1),
    ("a path of another layout", (*_ADD[:4], "--layout", "fashioniq", "--path", "{cirr}"),
     r"captions/cap\.dress\.train\.json: no such file", 1),
    ("a data set as a benchmark", (*_ADD[:4], "--layout", "circo", "--path", "{cirr}"),
     r"image_info_unlabeled2017\.json: no such file", 1),
    ("no path of a benchmark", (*_ADD[:2], "--layout", "circo"), "--path", 1),
    ("a pool of a benchmark", (*_ADD[:4], "--layout", "circo", "--path", "{circo}", "--pool", "folder"), "circo", 1),
    ("an unknown task", (*_ADD[:4], "--layout", "genecis", "--path", "{genecis}", "--tasks", "a"), "tasks", 1),
    ("an unknown category", (*_ADD[:4], "--layout", "fashioniq", "--path", "{fashioniq}", "--categories", "hat"),
     "categories", 1),
    ("tasks of a data set", (*_ADD, "--tasks", "focus_object"), "tasks", 1),
    ("an unknown data set to copy", (*_ADD, "--like", "none"), r"datasets\.none is not set", 1),
    ("a benchmark to copy", (*_ADD, "--like", "circo"), "circo", 1),
    ("no name to copy", (*_ADD, "--like", ""), "is not set", 1),
    ("no annotations", (*_ADD, "--annotations", "gone.csv"), r"gone\.csv", 1),
    ("annotations that are a folder", (*_ADD, "--annotations", "folder"), r"error: folder\b", 1),
    ("annotations that are a text", (*_ADD, "--annotations", "file.txt"), r"file\.txt", 1),
    ("annotations that are a link to itself", (*_ADD, "--annotations", "loop"), "loop", 1),
    ("annotations of another layout", (*_ADD, "--layout", "cirr", "--path", "{cirr}"), "annotations", 1),
    ("a pool that is not there", (*_ADD, "--pool", "gone"), "gone", 1),
    ("a pool that is a file", (*_ADD, "--pool", "file.txt"), r"file\.txt", 1),
    ("a pool that is empty", (*_ADD, "--pool", "folder"), r"error: folder\b", 1),
    ("a table of another layout", (*_ADD, "--table", "files=a"), "table", 1),
    ("a table without files", ("add-dataset", "mine", "--layout", "table", "--path", "folder"), r"error: folder\b", 1),
    ("a data set that has another layout", ("add-dataset", "fiq", *_ADD[2:]), r"datasets\.fiq\.", 1),
    ("a benchmark as the name", ("add-dataset", "circo", *_ADD[2:]), "circo", 1),
    ("another name of a benchmark", ("add-dataset", "fiq", *_ADD[2:4], "--layout", "circo", "--path", "{circo}"),
     "'fiq' is a data set and a benchmark", 1),
    ("everything as it should be", (*_ADD, "--run"), "Next:", 0),
)  # fmt: skip
_RECIPE_ROWS: Sequence[Row] = (
    ("no data set", _RECIPE[:2], "--dataset", 2),
    ("an unknown recipe", ("recipe", "best", *_RECIPE[2:]), "best", 1),
    ("an empty recipe", ("recipe", "", *_RECIPE[2:]), "''", 1),
    ("an unknown data set", (*_RECIPE, "--dataset", "none"), r"train\.none is not set", 1),
    ("a benchmark", (*_RECIPE, "--dataset", "circo"), "circo", 1),
    ("an unknown family", (*_RECIPE, "--family", "gpt"), "gpt", 1),
    ("an empty family", (*_RECIPE, "--family", ""), "''", 1),
    ("an entry of params as a data set", (*_RECIPE, "--dataset", "defaults"), "defaults", 1),
    ("a recipe that is written already", ("recipe", "paper", *_RECIPE[2:]), "already", 0),
)
_WITH_PASSWORD = (
    f"http://user:{PASSWORD}@a/v1",
    f"ftp://user:{PASSWORD}@a/v1",
    f"http://user:{PASSWORD}@a:x/v1",
    f"http://user:{PASSWORD}@[a/v1",
    f"http://a/v1?key={PASSWORD}",
)
_TRAIN_ROWS: Sequence[Row] = (
    ("no folder", _TRAIN[:1], "FOLDER", 2),
    ("an unknown family", (*_TRAIN, "--family", "gpt"), "--family", 2),
    ("a family that needs annotations", ("train", "{folder}", "--family", "clip"), "--annotations", 1),
    ("a family that needs an encoder", ("train", "{folder}"), "--encoder", 1),
    ("a captioner without an encoder", (*_TRAIN, "--captioner", "folder"), "--encoder", 1),
    (
        "a captioner without a configuration",
        (*_TRAIN, "--captioner", "folder", "--encoder", "file.txt"),
        r"error: folder\b",
        1,
    ),
    ("a captioner that is not there", (*_TRAIN, "--captioner", "gone", "--encoder", "file.txt"), "gone", 1),
    ("a captioner that is a file", (*_TRAIN, "--captioner", "file.txt", "--encoder", "file.txt"), r"file\.txt", 1),
    ("an encoder that is not there", (*_TRAIN, "--encoder", "gone.pt"), r"gone\.pt", 1),
    (
        "an encoder in an empty folder",
        (*_TRAIN, "--encoder", "folder", "--captioner-url", "http://a/v1"),
        "--encoder folder: contains 0 files",
        1,
    ),
    *(
        (f"the server '{url}'", (*_TRAIN, "--encoder", "file.txt", "--captioner-url", url), "--captioner-url", 1)
        for url in ("", "a", "ftp://a/v1", "http://", "http://a:x/v1", "http://a/v1?b=c", *_WITH_PASSWORD)
    ),
    ("no base", (*_TRAIN, "--base", ""), "--base", 1),
    ("a base that is a path", (*_TRAIN, "--base", "folder"), "--base", 1),
    ("a base in an empty folder", _TRAIN, "error: local-dir:folder: has no", 1),
    ("a base in no folder", (*_TRAIN, "--base", "local-dir:gone"), "gone", 1),
    ("an unknown base", (*_TRAIN, "--base", "open_clip:ViT-X/openai"), "ViT-X", 1),
    ("a base without a tag", (*_TRAIN, "--base", "open_clip:ViT-B-32"), "TAG", 1),
    ("no epochs", (*_TRAIN, "--epochs", 0), "at least 1", 2),
    ("epochs in words", (*_TRAIN, "--epochs", "many"), "a whole number", 2),
    ("another rule for missing images", (*_TRAIN, "--missing", "maybe"), "--missing", 2),
)
_BASE = (*_TRAIN, "--base", "local-dir:{base}")
_PROJECT_ROWS: Sequence[Row] = (
    ("a folder that is not there", ("train", "gone", *_BASE[2:]), "gone", 1),
    ("a folder that is a file", ("train", "file.txt", *_BASE[2:]), r"file\.txt", 1),
    ("a folder without images", ("train", "folder", *_BASE[2:]), r"error: folder\b", 1),
    ("a folder that is a link to itself", ("train", "loop", *_BASE[2:]), "loop", 1),
    ("annotations that are not there", (*_BASE, "--annotations", "gone.csv"), r"gone\.csv", 1),
    ("annotations that are a folder", (*_BASE, "--annotations", "folder"), r"error: folder\b", 1),
    ("annotations that are a text", (*_BASE, "--annotations", "file.txt"), r"file\.txt", 1),
    ("an out that contains something else", (*_BASE, "--out", "{cirr}"), "is not a project of spn4cir train", 1),
    ("an out that is a file", (*_BASE, "--out", "file.txt"), r"file\.txt", 1),
    ("an out that is a link to itself", (*_BASE, "--out", "loop"), "loop", 1),
    ("an out below a file", (*_BASE, "--out", "file.txt/a"), r"file\.txt", 1),
    ("an out below a link to itself", (*_BASE, "--out", "loop/a"), "loop", 1),
    ("an out inside the folder", (*_BASE, "--out", "{folder}/o"), "is inside", 1),
    ("an out of 300 characters", (*_BASE, "--out", "x" * 300), "too long", 1),
    ("too few images, in a folder to make", ("train", "{cirr}/dev", "--annotations", "few.csv", *_BASE[4:-4],
     "--base", "local-dir:{base}", "--out", "a/b/o"), "expected 8 or more", 1),
    ("images that are not there", ("train", "{cirr}/dev", "--annotations", "absent.csv", *_BASE[4:]), "absent", 1),
)  # fmt: skip
_ROWS = "dev-0-0-img0.png,dev-0-0-img1.png,is red,train\ndev-0-0-img2.png,dev-0-0-img3.png,is red,val\n"


def _training(words: Words, place: Place) -> Words:
    made = called(*words)(place)
    spoil(place.work / "few.csv", f"reference,target,text,split\n{_ROWS}")
    spoil(place.work / "absent.csv", f"reference,target,text,split\n{_ROWS}none.png,dev-0-0-img1.png,is red,train\n")
    return made


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something at a place of the project."""

    def change(work: Path) -> None:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        make(work / name)

    return change


_OCCUPIED: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a file": lambda path: path.write_text("a"),
    "a link to another folder": lambda path: path.symlink_to("/tmp"),
    "a link to nothing": lambda path: path.symlink_to("gone"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
}
_ABOVE = ("data", "data/raw", "data/models", "data/models/mine", "data/pool")
_TEXTS: dict[str, str] = {
    "without sections": "a: 1\n",
    "empty": "",
    "a list": "- a\n",
    "a text of tabs": "datasets:\n\ta: 1\n",
    "of one line": "{datasets: {}}\n",
}


def _lock(process: object) -> str:
    return json.dumps({"write": {"a": {"pid": process}}})


_DOCTOR: dict[str, Callable[[Path], object]] = {
    "an empty lock": lambda work: spoil(work / ".dvc/tmp/rwlock", ""),
    "a cut lock": lambda work: spoil(work / ".dvc/tmp/rwlock", '{"write": {'),
    "a lock of zeros": lambda work: spoil(work / ".dvc/tmp/rwlock", bytes(64)),
    "a lock that is a list": lambda work: spoil(work / ".dvc/tmp/rwlock", "[]"),
    "a lock that is nested": lambda work: spoil(work / ".dvc/tmp/rwlock", "[" * 100_000),
    "a lock of a process of text": lambda work: spoil(work / ".dvc/tmp/rwlock", _lock("x")),
    "a lock of a negative process": lambda work: spoil(work / ".dvc/tmp/rwlock", _lock(-7)),
    "a lock of a huge process": lambda work: spoil(work / ".dvc/tmp/rwlock", _lock(10**30)),
    "a cut list of stages": lambda work: spoil(work / "dvc.lock", "schema: '2.0'\nstages:\n  a:\n    cmd: b\n    de"),
    "an empty list of stages": lambda work: spoil(work / "dvc.lock", ""),
    "a list of stages of zeros": lambda work: spoil(work / "dvc.lock", bytes(64)),
    "a list of stages in Latin-1": lambda work: spoil(work / "dvc.lock", b"stages:\n  \xe9:\n    cmd"),
}  # fmt: skip
_NOTHING: dict[str, Callable[[Path], object]] = {
    "nothing": _kept,
    "a lock that is a folder": lambda work: (work / ".dvc/tmp/rwlock").mkdir(),
    "a list of stages that is a folder": lambda work: (work / "dvc.lock").mkdir(),
    "a list of stages that is a link to itself": lambda work: (work / "dvc.lock").symlink_to("dvc.lock"),
    "a list of stages that is a pipe": lambda work: os.mkfifo(work / "dvc.lock"),
}


def _project_cases() -> Iterator[Case]:
    for command, words in (("add-dataset", _ADD), ("recipe", _RECIPE)):
        yield Case(KIND, f"{command}: no project", called(*words), r"params\.yaml")
        for name, change in NOT_TEXT.items():
            make = partial(_inside, words, lambda work, change=change: change(work / _PARAMS))
            yield Case(KIND, f"{command}: {_PARAMS} is {name}", make, r"params\.yaml")
        for name, text in _TEXTS.items():
            make = partial(_inside, words, lambda work, text=text: spoil(work / _PARAMS, text))
            yield Case(KIND, f"{command}: {_PARAMS} is {name}", make, r"params\.yaml")
    for name, make_other in _OCCUPIED.items():
        make = partial(_inside, _ADD, _replaced("data/raw/mine", make_other))
        yield Case(KIND, f"add-dataset: data/raw/mine is {name}", make, "data/raw/mine: ")
    for place in _ABOVE:
        for name in ("a file", "a link to itself"):
            make = partial(_inside, _ADD, _replaced(place, _OCCUPIED[name]))
            yield Case(KIND, f"add-dataset: {place} is {name}", make, rf"{place}\b")
    no_pipeline = partial(_inside, _ADD, lambda work: (work / _PIPELINE).unlink())
    yield Case(KIND, "add-dataset: no dvc.yaml", no_pipeline, r"dvc\.yaml")


def _doctor_cases() -> Iterator[Case]:
    yield Case(KIND, "doctor: no workspace", called("doctor"), "is in no DVC workspace")
    file = partial(_in_file, ("doctor",))
    yield Case(KIND, "doctor: a file in place of .dvc", file, "is in no DVC workspace")
    for name, change in _DOCTOR.items():
        yield Case(KIND, f"doctor: {name}", partial(_inside, ("doctor",), change), "removed|mended", 0)
    for name, change in _NOTHING.items():
        yield Case(KIND, f"doctor: {name}", partial(_inside, ("doctor",), change), "^$", 0)


def _in_file(words: Words, place: Place) -> Words:
    spoil(place.work / ".dvc", "a")
    return filled(words, place)


def cases() -> Iterator[Case]:
    """Yields the cases of projects."""
    for command, rows in (("add-dataset", _ADD_ROWS), ("recipe", _RECIPE_ROWS)):
        for name, words, said, status in rows:
            yield Case(KIND, f"{command}: {name}", partial(_inside, words, _kept), said, status)
    for name, words, said, status in (*_TRAIN_ROWS, *_PROJECT_ROWS):
        yield Case(KIND, f"train: {name}", partial(_training, words), said, status)
    yield from _project_cases()
    yield from _doctor_cases()
