"""Outputs that would overwrite what the command reads, and outputs beside it, which are valid."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.faults.attempts import SERVES, Case
from tests.faults.places import Place
from tests.faults.words import Words, called, filled

KIND = "outputs"
_WEIGHTS = ("--checkpoint", "{weights}/best.pt")
_MACHINE = ("--workers", 0, "--device", "cpu")
_FOLDER = ("--layout", "folder", "--root", "{folder}", "--annotations", "{folder}/triplets.csv", "--workers", 0)
_IMAGE = "{folder}/mugs/0.png"
_VALIDATE = ("validate", "--layout", "cirr", "--root", "{cirr}", *_WEIGHTS, *_MACHINE)
_FIQ = ("dedup", "--layout", "fashioniq", "--root", "{fashioniq}", "--workers", 0)
_DEDUP, _CHECK = ("dedup", *_FOLDER), ("check-data", *_FOLDER)
_INDEXED = ("search", "--index", "{index}", "--text", "is red", *_MACHINE)
_GALLERY = ("search", *_WEIGHTS, "--gallery", "{folder}", "--text", "is red", *_MACHINE)
_RUNS = ("compare", "{runs}/cirr/a.json", "{runs}/cirr/b.json")
_INDEX = ("index", *_WEIGHTS, "--gallery", "{folder}", *_MACHINE)
_VECTORS = ("export", "--to", "vectors", "--index", "{index}")
_HUB = ("export", "--to", "hub-folder", *_WEIGHTS)
_SERVE = ("serve", *_WEIGHTS, "--gallery", "{folder}", "--port", 0, "--workers", 0)
# What the output is, the words, what the message contains, and the status.
_ROWS: Sequence[tuple[str, Words, str, int]] = (
    ("inspect: the checkpoint", ("inspect", _WEIGHTS[1], "--json", _WEIGHTS[1]), "is read by the same", 1),
    ("inspect: a file of the hub folder",
     ("inspect", "{hub folder}", "--json", "{hub folder}/config.json"), "inside", 1),
    ("inspect: beside the weights of the hub folder",
     ("inspect", "{hub folder}/model.safetensors", "--json", "{hub folder}/m.json"), "inside", 1),
    ("validate: the checkpoint", (*_VALIDATE, "--json", _WEIGHTS[1]), "is read by the same", 1),
    ("validate: annotations", (*_VALIDATE, "--json", "{cirr}/cirr/captions/cap.rc2.val.json"), "only read", 1),
    ("validate: the paraphrases",
     (*_VALIDATE, "--paraphrases", "file.txt", "--json", "file.txt"), "file.txt: is read", 1),
    ("validate: a new file in the root", (*_VALIDATE, "--json", "{cirr}/m.json"), "written", 0),
    ("validate: a file of the last run", (*_VALIDATE, "--json", "file.txt"), "written", 0),
    ("dedup: annotations", (*_FIQ, "--out", "{fashioniq}/captions/cap.dress.train.json"), "only read", 1),
    ("dedup: the file of annotations", (*_DEDUP, "--out", "{folder}/triplets.csv"), "exists in|is read by", 1),
    ("dedup: an image", (*_DEDUP, "--out", _IMAGE), "only read", 1),
    ("dedup: a new image in the root", (*_DEDUP, "--out", "{folder}/new.png"), "is an image", 1),
    ("dedup: a new file in the root", (*_DEDUP, "--out", "{folder}/o.json"), "images", 0),
    ("check-data: the file of annotations", (*_CHECK, "--json", "{folder}/triplets.csv"), "exists in|is read by", 1),
    ("check-data: an image", (*_CHECK, "--json", _IMAGE), "only read", 1),
    ("search: the query image", (*_INDEXED, "--image", _IMAGE, "--out", _IMAGE), "is read by the same", 1),
    ("search: the hits are the query image",
     (*_INDEXED, "--image", _IMAGE, "--json", _IMAGE), "is read by the same", 1),
    ("search: the hits are an image", (*_INDEXED, "--json", _IMAGE), "is an image", 1),
    ("search: an image of the gallery", (*_GALLERY, "--out", _IMAGE), "only read", 1),
    ("search: a new image in the gallery", (*_GALLERY, "--out", "{folder}/new.png"), "is an image", 1),
    ("search: the manifest of the index", (*_INDEXED, "--json", "{index}/index.json"), "is inside", 1),
    ("search: a new file in the index", (*_INDEXED, "--json", "{index}/hits.json"), "is inside", 1),
    ("search: the checkpoint", (*_GALLERY, "--json", _WEIGHTS[1]), "is read by the same", 1),
    ("search: both outputs are one", (*_INDEXED, "--json", "a.png", "--out", "a.png"), "two outputs", 1),
    ("search: both outputs are one by another path", (*_INDEXED, "--json", "folder/../a.png", "--out", "a.png"),
     "two outputs", 1),
    ("search: new files", (*_INDEXED, "--json", "a.json", "--out", "a.png"), "written", 0),
    ("compare: the second run", (*_RUNS, "--json", _RUNS[2]), "is read by the same", 1),
    ("compare: the page is the first run", (*_RUNS, "--html", _RUNS[1]), "is read by the same", 1),
    ("compare: the page is a table", (*_RUNS, "--html", "{runs}/cirr/a.parquet"), "is read by the same", 1),
    ("compare: the figures are an image of the page",
     (*_RUNS, "--html", "a.html", "--images", "{folder}", "--json", _IMAGE), "only read", 1),
    ("compare: both outputs are one", (*_RUNS, "--html", "x", "--json", "x"), "two outputs", 1),
    ("compare: a file beside the runs", (*_RUNS, "--json", "{runs}/cirr/found.json"), "written", 0),
    ("index: the gallery", (*_INDEX, "--out", "{folder}"), "contains|is read", 1),
    ("index: a folder above the checkpoint", (*_INDEX, "--out", "{weights}"), "contains", 1),
    ("export: the checkpoint", ("export", *_WEIGHTS, "--out", _WEIGHTS[1]), "is read by the same", 1),
    ("export: an image", ("export", *_WEIGHTS, "--out", _IMAGE), "is an image", 1),
    ("export: the manifest of the index", (*_VECTORS, "--out", "{index}/index.json"), "is inside", 1),
    ("export: a folder above the checkpoint", (*_HUB, "--out", "{weights}"), "contains", 1),
    ("serve: the checkpoint", (*_SERVE, "--annotate", _WEIGHTS[1]), "best.pt", 1),
    ("serve: a new file in the index", (*_SERVE, "--index", "{index}", "--annotate", "{index}/a.csv"), "is inside", 1),
    ("serve: a new file in the gallery", (*_SERVE, "--annotate", "{folder}/a.csv"), SERVES, 0),
)  # fmt: skip
_LINKS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda source, place: place.symlink_to(source),
    "a hard link": lambda source, place: os.link(source, place),
    "a link to the folder": lambda source, place: place.symlink_to(source.parent),
}


def _sheet_in_the_indexed_folder(place: Place) -> Words:
    """A contact sheet that the next index of the folder would contain."""
    words = filled((*_INDEXED, "--out"), place)
    folder = json.loads((place.data / "index" / "index.json").read_bytes())["root"]
    return *words, Path(folder, "new.png")


def _linked(link: Callable[[Path, Path], object], place: Place) -> Words:
    """A description that is written to another name of the checkpoint."""
    words = filled(("inspect", _WEIGHTS[1], "--json"), place)
    other = place.work / "other"
    link(Path(str(words[1])), other)
    return *words, other / "best.pt" if other.is_dir() else other


def cases() -> Iterator[Case]:
    """Yields the cases of outputs."""
    for name, words, said, status in _ROWS:
        yield Case(KIND, name, called(*words), said, status)
    yield Case(KIND, "search: a new image in the indexed folder", _sheet_in_the_indexed_folder, "is an image inside")
    for name, link in _LINKS.items():
        yield Case(KIND, f"inspect: the checkpoint, by {name}", partial(_linked, link), "which is read")
