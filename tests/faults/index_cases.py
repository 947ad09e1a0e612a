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
# Messages about the network and its options do not name the index.
_WORDS = {
    "family": "family",
    "composition": "composition|rule",
    "vision_head_width": "head",
    "pretrained": "open_clip|pretrained",
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


_ROWS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "the rows are reversed": lambda table: table.take(list(range(len(table)))[::-1]),
    "one row alone": lambda table: table.slice(0, 1),
    "no row": lambda table: table.slice(0, 0),
    "equal names": partial(_column, "name", "a.png"),
    "equal vectors": partial(_column, "vector", 0),
    "cut hashes": partial(_column, "crop", b"x"),
    "cut digests": partial(_column, "digest", b""),
    "names without a value": partial(_column, "name", None),
    "vectors without a value": partial(_column, "vector", None),
    "hashes without a value": partial(_column, "digest", None),
}


def cases() -> Iterator[Case]:
    """Yields the cases of indexes."""
    for name in (_MANIFEST, _TABLE, _WEIGHTS):
        yield Case(KIND, f"{name} is cut", partial(_changed, partial(_cut, name)), "index")
        yield Case(
            KIND, f"{name} is not there", partial(_changed, lambda root, name=name: (root / name).unlink()), "index"
        )
    for name in ("vectors", "targets"):
        yield Case(KIND, f"the files of {name} are cut", partial(_changed, partial(_cut_all, name)), "index")
    yield Case(KIND, "table and weights are swapped", partial(_changed, partial(_swapped, _TABLE, _WEIGHTS)), "index")
    yield Case(KIND, "the network has other weights", _other_weights, "index")
    for name, text in _TEXTS.items():
        make = partial(_changed, lambda root, text=text: spoil(root / _MANIFEST, text))
        yield Case(KIND, f"{_MANIFEST} is {name}", make, r"index")
    for key, values in _VALUES.items():
        for value in values:
            said = json.dumps(value)
            make = partial(_changed, partial(_set, key, value))
            yield Case(KIND, f"{key} is {said if len(said) < 40 else said[:12]}", make, _WORDS.get(key, "index"))
        if key not in ("composition", "image_side", "pretrained", "kind", "wanted_kind", "wanted_recall"):
            yield Case(KIND, f"{key} is absent", partial(_changed, partial(_without, key)), "index")
    for name, change in _ROWS.items():
        yield Case(KIND, f"the table: {name}", partial(_changed, partial(_with_table, change)), "index")
    yield Case(KIND, "no hash", partial(_changed, partial(_set, "files", {})), f"{_MANIFEST}: has no hash")
    yield Case(KIND, "an unknown key", partial(_changed, partial(_set, "code", "x.py")), "index")
    yield Case(KIND, "whole", partial(_changed, lambda root: None), r"1  ", 0)


def _cut_all(_: str, root: Path) -> None:
    """Cuts every file that is neither the manifest, the table nor the weights."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in (_MANIFEST, _TABLE, _WEIGHTS):
            _cut(str(path.relative_to(root)), root)
