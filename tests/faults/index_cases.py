"""Indexes with a fault: files that are swapped, cut or of other weights, and manifests of another form."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.files import file_hash
from tests.faults.attempts import Case
from tests.faults.places import Place, edit, spoil
from tests.helpers.checkpoints import write_checkpoint

KIND = "indexes"
_MANIFEST, _TABLE, _WEIGHTS = "index.json", "pictures.parquet", "weights.pt"


def _search(root: Path, *more: object) -> Sequence[object]:
    return "search", "--index", root, "--text", "is red", "--workers", 0, *more


def _changed(change: Callable[[Path], object], place: Place) -> Sequence[object]:
    root = place.copy("index")
    change(root)
    return _search(root)


def _cut(name: str, root: Path) -> None:
    whole = (root / name).read_bytes()
    spoil(root / name, whole[: len(whole) // 2])


def _swapped(first: str, second: str, root: Path) -> None:
    one, two = (root / first).read_bytes(), (root / second).read_bytes()
    spoil(root / first, two)
    spoil(root / second, one)


def _other_weights(place: Place) -> Sequence[object]:
    root = place.copy("index")
    return _search(root, "--checkpoint", write_checkpoint(place.data / "other.pt", seed=1))


def _set(name: str, value: Any, root: Path) -> None:
    edit(root / _MANIFEST, lambda content: content.update({name: value}))


def _without(name: str, root: Path) -> None:
    edit(root / _MANIFEST, lambda content: content.pop(name) and None)


_VALUES: dict[str, Sequence[Any]] = {
    "format": (None, "2", 3, 0, []),
    "family": (None, 7, "gpt", "blip"),
    "vision_head_width": ("x", 0, -1, 7, 10**30),
    "composition": (7, "product"),
    "weights": (None, 7, "0" * 64),
    "image_side": (7, []),
    "weights_path": (7, []),
    "pretrained": (7, "open_clip:none/none"),
    "root": (None, 7),
    "whole": (None, "maybe", []),
    "target": (None, [], [0], [-32], [10**12], [3], ["x"], [32, 32], 7),
    "kind": (None, "best", 7, "ivf"),
    "wanted_kind": (None, "best"),
    "wanted_recall": ("x", []),
    "files": (None, [], {"../../../etc/passwd": "0" * 64}, {"vectors.faiss": 7}, {"gone": "0" * 64}),
}
# What the message says of a value; else the manifest and the key.
_WORDS = {
    "format": r"index\.json: format: |an index of format [03]",
    "family": r"index\.json: family: |family '(gpt|clip)'",
    "vision_head_width": r"index\.json: vision_head_width: |the head width (7|10{30});",
    "composition": r"index\.json: composition: |composition 'product'",
    "weights": r"index\.json: weights: |weights\.pt: contains other weights",
    "pretrained": r"index\.json: pretrained: |open_clip:none/none",
    "target": r"index\.json: target(\.0)?: |not those of an index \((vectors of 32 numbers|6 vectors)",
    "kind": r"index\.json: kind: |not those of an index \(.*ids\.npy",
    "files": r"index\.json: (files(\.vectors\.faiss)?: |names '(\.\./|gone'))",
}
_TEXTS = {"empty": "", "a list": "[]", "null": "null", "a web page": "<html>", "zeros": "\0" * 100}


def _with_table(change: Callable[[pa.Table], pa.Table], root: Path) -> None:
    """Changes the rows, and states the hash of the changed file."""
    changed = change(pq.read_table(root / _TABLE))
    (root / _TABLE).unlink()  # the file may be a link to that of other cases
    pq.write_table(changed, root / _TABLE)
    edit(root / _MANIFEST, lambda content: content["files"].update({_TABLE: file_hash(root / _TABLE)}))


def _column(name: str, value: Any, table: pa.Table) -> pa.Table:
    """The table with one value in all rows of a column."""
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array([value] * len(table), table.schema.field(name).type))


# Changes of the rows, and the words about each.
_ROWS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "the rows are reversed": (lambda table: table.take(list(range(len(table)))[::-1]), "names are not sorted"),
    "one row alone": (lambda table: table.slice(0, 1), "1 vectors in"),
    "no row": (lambda table: table.slice(0, 0), "0 vectors in"),
    "equal names": (partial(_column, "name", "a.png"), "or one occurs twice"),
    "equal vectors": (partial(_column, "vector", 0), "1 vectors in"),
    "cut hashes": (partial(_column, "crop", b"x"), "a hash of the column 'crop'"),
    "cut digests": (partial(_column, "digest", b""), "a hash of the column 'digest'"),
    "names without a value": (partial(_column, "name", None), "the column 'name'"),
    "vectors without a value": (partial(_column, "vector", None), "the column 'vector'"),
    "hashes without a value": (partial(_column, "digest", None), "the column 'digest'"),
}
# Changes of files, and the words about each.
_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    f"{_MANIFEST} is cut": (partial(_cut, _MANIFEST), r"index\.json: is not valid JSON"),
    f"{_TABLE} is cut": (partial(_cut, _TABLE), r"pictures\.parquet: is damaged"),
    f"{_WEIGHTS} is cut": (partial(_cut, _WEIGHTS), r"weights\.pt: contains other weights"),
    f"{_MANIFEST} is not there": (lambda root: (root / _MANIFEST).unlink(), r"no index\.json there"),
    f"{_TABLE} is not there": (lambda root: (root / _TABLE).unlink(), r"pictures\.parquet: is missing"),
    f"{_WEIGHTS} is not there": (lambda root: (root / _WEIGHTS).unlink(), r"weights\.pt: no such file"),
    "the vectors are cut": (partial(_cut, "vectors.faiss"), r"vectors\.faiss: is damaged"),
    "table and weights are swapped": (partial(_swapped, _TABLE, _WEIGHTS), r"pictures\.parquet: is damaged"),
    "no hash": (partial(_set, "files", {}), r"index\.json: has no hash"),
    "an unknown key": (partial(_set, "code", "x.py"), r"index\.json: code: "),
}


def cases() -> Iterator[Case]:
    """Yields the cases of indexes."""
    for name, (change, said) in _FILES.items():
        yield Case(KIND, name, partial(_changed, change), said)
    yield Case(KIND, "the network has other weights", _other_weights, r"other\.pt: encodes images with other weights")
    for name, text in _TEXTS.items():
        make = partial(_changed, lambda root, text=text: spoil(root / _MANIFEST, text))
        yield Case(KIND, f"{_MANIFEST} is {name}", make, r"error: index\.json: ")
    for key, values in _VALUES.items():
        for value in values:
            shown = json.dumps(value)
            make = partial(_changed, partial(_set, key, value))
            words = _WORDS.get(key, rf"index\.json: {key}: ")
            yield Case(KIND, f"{key} is {shown if len(shown) < 40 else shown[:12]}", make, words)
        if key not in ("composition", "image_side", "pretrained", "kind", "wanted_kind", "wanted_recall"):
            make = partial(_changed, partial(_without, key))
            yield Case(KIND, f"{key} is absent", make, rf"index\.json: {key}: field required")
    for name, (edited, said) in _ROWS.items():
        make = partial(_changed, partial(_with_table, edited))
        yield Case(KIND, f"the table: {name}", make, rf"are not those of an index \(.*{said}")
    yield Case(KIND, "whole", partial(_changed, lambda root: None), r"1  ", 0)
