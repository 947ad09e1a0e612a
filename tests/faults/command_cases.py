"""Options of `validate`, `index`, `export` and `serve` with a fault, and the files that they name."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.annotation_cases import ABSENT, NOT_JSON, OTHER_FORMS, VALUES, put
from tests.faults.attempts import Case
from tests.faults.places import Place, spoil
from tests.faults.words import Words, called, filled

KIND = "commands"
_WEIGHTS = ("--checkpoint", "{weights}/best.pt")
_MACHINE = ("--workers", 0, "--device", "cpu")
_VALIDATE = ("validate", "--layout", "cirr", "--root", "{cirr}", *_WEIGHTS, "--json", "m.json", *_MACHINE)
_FASHIONIQ = (*_VALIDATE, "--layout", "fashioniq", "--root", "{fashioniq}")
_INDEX = ("index", *_WEIGHTS, "--gallery", "{folder}", "--out", "i", *_MACHINE)
_FILE = ("export", *_WEIGHTS, "--out", "o.pt")
_HUB = ("export", "--to", "hub-folder", *_WEIGHTS, "--out", "o")
_VECTORS = ("export", "--to", "vectors", "--index", "{index}", "--out", "v.parquet")
Row = tuple[str, Words, str, int]


def _places(call: Words, option: str, kind: str) -> Sequence[Row]:
    """The places where nothing can be written, of an option that names a file or a folder."""
    other = "folder" if kind == "file" else "file.txt"
    return (
        (f"{option} in place of another kind", (*call, option, other), rf"error: {other}: is a ", 1),
        (f"{option} below a file", (*call, option, "file.txt/a"), r"file\.txt", 1),
        (f"{option} below a link to itself", (*call, option, "loop/a"), "loop", 1),
        (f"{option} that is empty", (*call, option, ""), r"error: \.: (is a folder|contains)", 1),
        (f"{option} below a pipe", (*call, option, "pipe/a"), "pipe", 1),
        (f"{option} that is a pipe", (*call, option, "pipe"), "pipe: is a ", 1),
        (f"{option} of 300 characters", (*call, option, "x" * 300), "too long", 1),
    )


# The network of every command that has one.
_NETWORK: Sequence[Row] = (
    ("no weights", (*_INDEX, "--checkpoint", "gone.pt"), r"gone\.pt", 1),
    ("weights that are a folder", (*_INDEX, "--checkpoint", "folder"), r"error: folder\b", 1),
    ("weights that are a text", (*_INDEX, "--checkpoint", "file.txt"), r"file\.txt", 1),
    ("weights that are a link to itself", (*_INDEX, "--checkpoint", "loop"), "loop", 1),
    ("weights without a name", (*_INDEX, "--checkpoint", ""), r"error: \.: is a folder without", 1),
    ("an index as weights", (*_INDEX, "--checkpoint", "{index}"), r"is a folder without config\.json", 1),
    ("a network without a name", (*_INDEX, "--checkpoint", "open_clip:"), "names no model", 1),
    ("an architecture without a tag", (*_INDEX, "--checkpoint", "open_clip:ViT-B-32"), "TAG", 1),
    ("an unknown architecture", (*_INDEX, "--checkpoint", "open_clip:ViT-X/openai"), "ViT-X", 1),
    ("an unknown tag", (*_INDEX, "--checkpoint", "open_clip:ViT-B-32/none"), "none", 1),
    ("a network of another tokenizer", (*_INDEX, "--checkpoint", "open_clip:ViT-B-16-SigLIP/webli"), "SigLIP", 1),
    ("a repository without a name", (*_INDEX, "--checkpoint", "hf-hub:"), "names no model", 1),
    ("a repository of a path", (*_INDEX, "--checkpoint", "hf-hub:../../etc/passwd"), "etc/passwd", 1),
    ("a network in no folder", (*_INDEX, "--checkpoint", "local-dir:gone"), "gone", 1),
    (
        "a network in a folder without one",
        (*_INDEX, "--checkpoint", "local-dir:folder"),
        r"error: local-dir:folder: has no",
        1,
    ),
    ("a network in a file", (*_INDEX, "--checkpoint", "local-dir:file.txt"), r"file\.txt", 1),
    ("an unknown family", (*_INDEX, "--family", "gpt"), "gpt", 1),
    ("another family", (*_INDEX, "--family", "blip"), "blip", 1),
    ("an empty family", (*_INDEX, "--family", ""), "family", 1),
    ("a head width of 0", (*_INDEX, "--vision-head-width", 0), "at least 1", 2),
    ("a head width that does not divide", (*_INDEX, "--vision-head-width", 7), "head", 1),
    ("a head width in words", (*_INDEX, "--text-head-width", "wide"), "a whole number", 2),
    ("a huge head width", (*_INDEX, "--text-head-width", 10**30), "head", 1),
    ("a tokenizer for a family with its own", (*_INDEX, "--tokenizer", "folder"), "--tokenizer", 1),
    ("an unknown composition", (*_INDEX, "--composition", "product"), "--composition", 2),
    ("a composition for a family with its own", (*_INDEX, "--composition", "slerp"), "i: written", 0),
    ("an unknown device", (*_INDEX, "--device", "tpu"), "tpu", 1),
    ("a device without a name", (*_INDEX, "--device", ""), "'' is not a device", 1),
    ("a device of no number", (*_INDEX, "--device", "cuda:x"), "cuda:x", 1),
    ("a GPU that is not there", (*_INDEX, "--device", "cuda:99"), "cuda:99", 1),
    ("less than no workers", (*_INDEX, "--workers", -1), "at least 0", 2),
    ("half a worker", (*_INDEX, "--workers", 0.5), "a whole number", 2),
)
_VALIDATE_ROWS: Sequence[Row] = (
    ("no layout", _VALIDATE[:1], "--layout", 2),
    ("an unknown layout", (*_VALIDATE, "--layout", "coco"), "coco", 1),
    ("a root that is not there", (*_VALIDATE, "--root", "gone"), "gone", 1),
    ("a root that is a file", (*_VALIDATE, "--root", "file.txt"), r"file\.txt", 1),
    ("a root that is empty", (*_VALIDATE, "--root", "folder"), r"error: folder\b", 1),
    ("a root of another layout", (*_VALIDATE, "--root", "{fashioniq}"), r"split\.rc2\.val\.json: no such file", 1),
    ("annotations of another layout", (*_VALIDATE, "--annotations", "file.txt"), "annotations", 1),
    ("categories of another layout", (*_VALIDATE, "--categories", "dress"), "categories", 1),
    ("tasks of another layout", (*_VALIDATE, "--tasks", "focus_object"), "tasks", 1),
    ("a table of another layout", (*_VALIDATE, "--table", "files=a"), "table", 1),
    ("a setting without a value", (*_VALIDATE, "--table", "files="), "--table", 1),
    ("a setting without a key", (*_VALIDATE, "--table", "=a"), "--table", 1),
    ("a setting twice", (*_VALIDATE, "--table", "files=a", "--table", "files=b"), "files=", 1),
    ("a text of another layout", (*_VALIDATE, "--query-text", "{{}}"), "query_text", 1),
    ("another rule for missing images", (*_VALIDATE, "--missing", "maybe"), "--missing", 2),
    ("an unknown data set", (*_VALIDATE, "--dataset", "none"), "none", 1),
    ("a data set of another layout", (*_VALIDATE, "--dataset", "fiq"), "fiq", 1),
    ("no file of paraphrases", (*_VALIDATE, "--paraphrases", "gone.json"), r"gone\.json", 1),
    ("a text of paraphrases", (*_VALIDATE, "--paraphrases", "file.txt"), r"file\.txt", 1),
    ("categories that are unknown", (*_FASHIONIQ, "--categories", "hat"), "'hat'", 1),
    ("categories without a name", (*_FASHIONIQ, "--categories", ","), "categor", 1),
    ("a category twice", (*_FASHIONIQ, "--categories", "dress,dress"), "written", 0),
    ("tasks that are unknown", (*_VALIDATE, "--layout", "genecis", "--root", "{genecis}", "--tasks", "focus"), "focus",
     1),
    ("no annotations of a folder", (*_VALIDATE, "--layout", "folder", "--root", "{folder}"), "annotations", 1),
    ("a table with its columns", (*_VALIDATE, "--layout", "table", "--root", "{table}", "--table", "files=*"),
     "written", 0),
    ("a pattern that leaves", (*_VALIDATE, "--layout", "table", "--root", "{table}", "--table", "files=../*"),
     "matches|leaves|outside", 1),
    ("a split of no name", (*_VALIDATE, "--layout", "table", "--root", "{table}", "--table", "split=some"), "some", 1),
    ("shortcuts of small galleries", (*_VALIDATE, "--layout", "genecis", "--root", "{genecis}", "--shortcuts"),
     "--shortcuts", 1),
    ("everything as it should be", (*_VALIDATE, "--baselines"), "written", 0),
)  # fmt: skip
_INDEX_ROWS: Sequence[Row] = (
    ("a gallery that is not there", (*_INDEX, "--gallery", "gone"), "gone", 1),
    ("a gallery that is a file", (*_INDEX, "--gallery", "file.txt"), r"file\.txt", 1),
    ("a gallery without images", (*_INDEX, "--gallery", "folder"), r"error: folder\b", 1),
    ("a gallery that is a link to itself", (*_INDEX, "--gallery", "loop"), "loop", 1),
    (
        "an out that contains something else",
        (*_INDEX, "--out", "{cirr}"),
        "contains cirr, which is not part of an index",
        1,
    ),
    ("an unknown kind", (*_INDEX, "--kind", "best"), "--kind", 2),
    ("a recall of words", (*_INDEX, "--recall", "high"), "--recall", 2),
    *((f"a recall of {value}", (*_INDEX, "--recall", value), "recall", 1) for value in (0, -1, 2, "nan", "inf")),
    ("too few images for lists", (*_INDEX, "--kind", "ivf"), "written", 0),
    ("an out inside the gallery", (*_INDEX, "--out", "{folder}/i"), "written", 0),
)
_EXPORT_ROWS: Sequence[Row] = (
    ("an unknown form", (*_FILE, "--to", "onnx"), "--to", 2),
    ("no weights", _HUB[:3] + _HUB[5:], "--checkpoint", 2),
    ("no index", _VECTORS[:3] + _VECTORS[5:], "--index", 2),
    ("an index for a file", (*_FILE, "--index", "{index}"), "--index", 2),
    ("a licence for a file", (*_FILE, "--licence", "mit"), "--licence", 2),
    ("weights for vectors", (*_VECTORS, *_WEIGHTS), "--checkpoint", 2),
    ("a tokenizer for a file", (*_FILE, "--tokenizer", "folder"), "--tokenizer", 2),
    ("the weights as the out", (*_FILE, "--out", "{weights}/best.pt"), "is read by the same", 1),
    ("a hub folder as the out of itself",
     (*_HUB, "--checkpoint", "{hub folder}", "--out", "{hub folder}"), "which is read", 1),
    ("an out inside the hub folder", (*_FILE, "--checkpoint", "{hub folder}", "--out", "{hub folder}/a.pt"),
     "is inside", 1),
    ("a hub folder that contains something else", (*_HUB, "--out", "{cirr}"), "contains cirr, .* of an export",
     1),
    ("a licence in words", (*_HUB, "--licence", "MIT License"), "licence", 1),
    ("a licence of two lines", (*_HUB, "--licence", "mit\nx: y"), "licence", 1),
    ("data without a name", (*_HUB, "--data", " "), "--data", 1),
    ("scores of no data set", (*_HUB, "--metrics", "file.txt"), "--scored-on", 1),
    ("scores of a blank data set", (*_HUB, "--metrics", "file.txt", "--scored-on", " "), "--scored-on", 1),
    ("scores that are not there", (*_HUB, "--metrics", "gone", "--scored-on", "a"), "gone", 1),
    ("scores of a folder", (*_HUB, "--metrics", "folder", "--scored-on", "a"), r"error: folder\b", 1),
    ("vectors of no index", (*_VECTORS, "--index", "folder"), r"error: folder\b", 1),
    ("vectors of an index that is not there", (*_VECTORS, "--index", "gone"), "gone", 1),
    ("vectors of a file", (*_VECTORS, "--index", "file.txt"), r"file\.txt", 1),
    ("vectors inside the index", (*_VECTORS, "--out", "{index}/v.parquet"), "is inside", 1),
    ("a file over a text", (*_FILE, "--out", "file.txt"), "written", 0),
    ("a name of two lines", (*_HUB, "--name", "a\n---\nb: c", "--data", "d\ne: f"), "written", 0),
    ("vectors without an ending", (*_VECTORS, "--out", "v"), "written", 0),
)  # fmt: skip


# A byte that is not UTF-8, as Python reads it from an argument.
_BYTE = os.fsdecode(b"\xff")
# Options of a folder, a file and a text; all words go through one check.
_MISNAMED: Sequence[Row] = tuple(
    (f"{call[0]} {option} that is not UTF-8", (*call, option, f"{_BYTE}.a"), rf"{option}: '\\udcff\.a' is not UTF-8", 2)
    for call, option in (
        (_VALIDATE, "--root"), (_VALIDATE, "--json"), (_INDEX, "--out"), (_INDEX, "--checkpoint"), (_HUB, "--name"),
        (_HUB, "--data"), (_HUB, "--scored-on"), (("search", "--index", "{index}"), "--text"),
    )
)  # fmt: skip


def _indexed_again(place: Place) -> Words:
    """An index over a copy of another one; the copies in the folder of the inputs may not be replaced."""
    shutil.copytree(place.copy("index"), place.work / "i")
    return filled(_INDEX, place)


def _content(call: Words, option: str, name: str, change: Callable[[Path], object], place: Place) -> Words:
    """A call whose option names a file that is written and then changed."""
    file = spoil(place.data / name, json.dumps(_METRICS if option == "--metrics" else {"is red": ["make it red"]}))
    change(file)
    return filled((*call, option, file), place)


_METRICS: dict[str, Any] = {
    "recall_at5": 50.0,
    "protocol": {"family": "clip", "gallery": "all", "preprocess": {"size": 32}},
    "counts": {"queries": {"val": 4}, "gallery": {"val": 6}, "left_out": {"val": 0}, "missing_images": {"val": 0}},
    "stage1": {"recall_at5": 40.0},
    "weights": {"sha256": "0" * 64},
}
_ENTRIES: tuple[tuple[str, ...], ...] = (
    ("protocol",),
    ("protocol", "family"),
    ("counts",),
    ("counts", "queries", "val"),
    ("stage1", "recall_at5"),
    ("weights",),
    ("weights", "sha256"),
)


def _entry(path: tuple[str, ...], value: Any, file: Path) -> None:
    content = json.loads(json.dumps(_METRICS))
    put(content, path, value)
    spoil(file, json.dumps(content))


_PARAPHRASES: dict[str, Any] = {
    "of no query": {"none": ["a"]},
    "of nothing": {},
    "of texts": {"is red": "make it red"},
    "of numbers": {"is red": [7]},
    "of blank texts": {"is red": [" "]},
    "of null": {"is red": None},
    "of lists of lists": {"is red": [["a"]]},
}


def _file_cases() -> Iterator[Case]:
    forms = NOT_JSON | {each: partial(spoil, content=text) for each, text in OTHER_FORMS.items()}
    for call, option in ((_VALIDATE, "--paraphrases"), ((*_HUB, "--scored-on", "a"), "--metrics")):
        for name, change in forms.items():
            make = partial(_content, call, option, "f.json", change)
            yield Case(KIND, f"{option} is {name}", make, r"f\.json")
    for name, content in _PARAPHRASES.items():
        make = partial(_content, _VALIDATE, "--paraphrases", "f.json", partial(spoil, content=json.dumps(content)))
        yield Case(KIND, f"--paraphrases {name}", make, r"f\.json")
    for path in _ENTRIES:
        for name, value in (VALUES | {"absent": ABSENT}).items():
            make = partial(_content, (*_HUB, "--scored-on", "a"), "--metrics", "f.json", partial(_entry, path, value))
            words, status = ("written", 0) if path == ("weights",) and name in ("null", "absent") else (r"f\.json", 1)
            yield Case(KIND, f"--metrics with {'.'.join(path)} that is {name}", make, words, status)


def cases() -> Iterator[Case]:
    """Yields the cases of commands."""
    rows = {
        "network": _NETWORK,
        "validate": (*_VALIDATE_ROWS, *_places(_VALIDATE, "--json", "file")),
        "index": (*_INDEX_ROWS, *_places(_INDEX, "--out", "folder")),
        "export": (*_EXPORT_ROWS, *_places(_FILE, "--out", "file")),
        "export to a hub folder": _places(_HUB, "--out", "folder"),
        "export of vectors": _places(_VECTORS, "--out", "file"),
        "arguments": _MISNAMED,
    }
    for command, own in rows.items():
        for name, words, said, status in own:
            yield Case(KIND, f"{command}: {name}", called(*words), said, status)
    yield Case(KIND, "index: an index of the same images", _indexed_again, "written", 0)
    yield from _file_cases()
