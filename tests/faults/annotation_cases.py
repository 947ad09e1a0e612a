"""Annotation files with a fault: every field of every layout, and every file."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from spn4cir.datasets.cc3m import Cc3m
from tests.faults.attempts import Case
from tests.faults.places import Place, edit, spoil

KIND = "annotations"
# Values of each type of JSON, and extreme ones.
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a number": 7,
    "a fraction": 0.5,
    "NaN": float("nan"),
    "a huge number": 10**30,
    "text": "no such thing",
    "a blank text": " ",
    "a huge text": "x" * 200_000,
    "a text of two lines": "a\nb",
    "half a character": "\ud83d",
    "a list": [],
    "a nested list": [[["a"]]],
    "a list of numbers": [1, 2],
    "an object": {"a": 1},
}
TEXT = ("text", "a blank text", "a huge text", "a text of two lines")
ABSENT = "no value"


class Field(NamedTuple):
    """A field of a record.

    Attributes:
        layout: the data set.
        file: annotation file below its root.
        path: keys and positions that lead to the field.
        valid: names of the `VALUES` that the field may have.
        reported: names of the `VALUES` after which images are missing, which is reported on stdout.
    """

    layout: str
    file: str
    path: tuple[str | int, ...]
    valid: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()


_FIQ, _CIRR, _CIRCO = "captions/cap.dress.train.json", "cirr/captions/cap.rc2.train.json", "annotations/val.json"
_LISTING = "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
_GENECIS = "genecis/{}.json"
FIELDS = (
    Field("fashioniq", _FIQ, (0, "candidate")),
    Field("fashioniq", _FIQ, (0, "target")),
    Field("fashioniq", _FIQ, (0, "captions"), TEXT),
    Field("fashioniq", "image_splits/split.dress.val.json", (0,)),
    Field("cirr", _CIRR, (0, "reference")),
    Field("cirr", _CIRR, (0, "target_hard")),
    Field("cirr", _CIRR, (0, "caption"), TEXT),
    Field("cirr", _CIRR, (0, "pairid"), ("a number",)),
    Field("cirr", _CIRR, (0, "img_set")),
    Field("cirr", _CIRR, (0, "img_set", "members"), ("a list",)),  # training needs none
    Field("cirr", "cirr/image_splits/split.rc2.val.json", ("dev-0-0-img0",)),
    Field("circo", _CIRCO, (0, "id"), ("a number",)),
    Field("circo", _CIRCO, (0, "reference_img_id"), ("a number",)),
    Field("circo", _CIRCO, (0, "target_img_id")),
    Field("circo", _CIRCO, (0, "gt_img_ids")),
    Field("circo", _CIRCO, (0, "relative_caption"), TEXT),
    Field("circo", _CIRCO, (0, "shared_concept"), TEXT),
    Field("circo", _CIRCO, (0, "semantic_aspects"), ("a list",)),
    Field("circo", _LISTING, ("images",), reported=("a list",)),
    Field("circo", _LISTING, ("images", 0, "id"), ("a number",), ("a huge number",)),
    Field("circo", _LISTING, ("images", 0, "file_name")),
    Field("genecis", _GENECIS.format("focus_object"), (0, "condition"), TEXT),
    Field("genecis", _GENECIS.format("focus_object"), (0, "reference")),
    Field("genecis", _GENECIS.format("focus_object"), (0, "target")),
    Field("genecis", _GENECIS.format("focus_object"), (0, "gallery")),
    Field("genecis", _GENECIS.format("focus_object"), (0, "target", "val_image_id")),
    Field("genecis", _GENECIS.format("focus_attribute"), (0, "target", "image_id")),
    Field("genecis", _GENECIS.format("focus_attribute"), (0, "target", "instance_bbox")),
)
# A name of an image that has a valid type but that no image has: reported as missing, on stdout.
_NAMES = ("candidate", "target", "reference", "target_hard", "dev-0-0-img0", "file_name", 0)
_IDS = ("val_image_id", "image_id", "reference_img_id", "id")
# Splits that a data set may lack: what is no file counts as none, and is reported.
_LEFT_OUT = (("cirr", _CIRR), ("circo", _CIRCO))
FILES = {
    "fashioniq": (_FIQ, "image_splits/split.dress.val.json"),
    "cirr": (_CIRR, "cirr/image_splits/split.rc2.val.json"),
    "circo": (_CIRCO, _LISTING),
    "genecis": (_GENECIS.format("change_object"),),
    "folder": ("triplets.csv",),
    "part files": ("part_0.data",),
}


def check(layout: str, root: Path) -> Sequence[object] | Callable[[], object]:
    """Returns the call that reads every annotation of a data set."""
    if layout == "part files":
        return lambda: len(Cc3m(root, None, "error").images())
    more = ("--annotations", root / "triplets.csv") if layout == "folder" else ()
    return "check-data", "--layout", layout, "--root", root, "--workers", 0, *more


def put(content: Any, path: Sequence[str | int], value: Any) -> None:
    """Changes a value inside parsed JSON; ABSENT removes it."""
    for key in path[:-1]:
        content = content[key]
    if value is ABSENT:
        del content[path[-1]]
    else:
        content[path[-1]] = value


def _with_value(field: Field, value: Any, place: Place) -> Any:
    root = place.copy(field.layout)
    edit(root / field.file, lambda content: put(content, field.path, value))
    return check(field.layout, root)


def _field_cases() -> Iterator[Case]:
    for field in FIELDS:
        where = f"{field.layout} {'.'.join(map(str, field.path))}"
        is_name = field.path[-1] in _NAMES and field.path[-2:] not in ((0, "reference"), (0, "target"))
        is_name |= field.layout in ("fashioniq", "cirr") and field.path[-1] in _NAMES
        named = ("text", "a huge text", "a text of two lines") if is_name else ()
        if field.path[-1] in _IDS:
            named = ("a number", "a huge number") if field.path[-1] != "id" else ()
        for name, value in (VALUES | {"absent": ABSENT}).items():
            if name == "absent" and field.path[-1] in (0, "dev-0-0-img0"):
                continue
            if name in named or name in field.reported:  # an image that is not there is reported, with status 1
                continue
            status = 0 if name in field.valid else 1
            words = "" if not status else _words(field)
            yield Case(KIND, f"{where} is {name}", partial(_with_value, field, value), words, status)


def _words(field: Field) -> str:
    """The file and the place that a message names."""
    names = [key for key in field.path if isinstance(key, str)]
    return rf"{Path(field.file).name}: .*({'|'.join((*names[-1:], 'triplet 0', 'element 0', 'half a character'))})"


def _sparse(path: Path) -> None:
    path.unlink()
    with path.open("wb") as stream:
        stream.write(b"[")
        stream.truncate(2 << 30)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


FILES_THAT_ARE_NONE: dict[str, Callable[[Path], object]] = {
    "a link to an endless device": _endless,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link to itself": _loop,
}
# What is no file of text, whatever was expected in it.
NOT_TEXT: dict[str, Callable[[Path], object]] = {
    "UTF-16": lambda path: spoil(path, path.read_text().encode("utf-16")),
    "Latin-1": lambda path: spoil(path, path.read_bytes().replace(b"e", b"\xe9")),
    "cut": lambda path: spoil(path, path.read_bytes()[:-30]),
    "zeros of 2 GB": _sparse,
    **FILES_THAT_ARE_NONE,
}
NOT_JSON: dict[str, Callable[[Path], object]] = {
    **NOT_TEXT,
    "empty": lambda path: spoil(path, b""),
    "a web page": lambda path: spoil(path, "<!doctype html><title>404</title>"),
    "nested 100,000 times": lambda path: spoil(path, "[" * 100_000 + "]" * 100_000),
    "a number of 10,000 digits": lambda path: spoil(path, "9" * 10_000),
}
OTHER_FORMS: dict[str, str] = {
    "a number": "7",
    "null": "null",
    "NaN": "NaN",
    "a list of lists": "[[1]]",
    "a text": '"a"',
}


def _with_file(layout: str, file: str, change: Callable[[Path], object], place: Place) -> Any:
    root = place.copy(layout)
    change(root / file)
    return check(layout, root)


def _file_cases() -> Iterator[Case]:
    for layout, files in FILES.items():
        for file in files:
            is_json = file.endswith(".json")
            changes = dict(NOT_JSON)
            if is_json:
                changes |= {name: partial(spoil, content=text) for name, text in OTHER_FORMS.items()}
            for name, change in changes.items():
                make = partial(_with_file, layout, file, change)
                is_absent = name in FILES_THAT_ARE_NONE and (layout, file) in _LEFT_OUT
                words, status = ("not checked: (train|val)", 0) if is_absent else (re_escape(file), 1)
                yield Case(KIND, f"{layout} {Path(file).name} is {name}", make, words, status)
            if is_json:
                mark = partial(_with_file, layout, file, lambda path: spoil(path, b"\xef\xbb\xbf" + path.read_bytes()))
                yield Case(KIND, f"{layout} {Path(file).name} begins with a byte order mark", mark, "", 0)


def re_escape(file: str) -> str:
    """Returns the pattern of a file's name in a message; a part file may leave no image."""
    return "part_|no image is left" if file.endswith(".data") else Path(file).stem.replace(".", r"\.")


def _twice(content: list[Any]) -> list[Any]:
    return [*content, content[0]]


def _named(layout: str, field: Field, name: str, place: Place) -> Sequence[object]:
    """A training triplet that names another image, and the command that reads the triplets."""
    root = place.copy(layout)
    edit(root / field.file, lambda content: put(content, field.path, name))
    return "dedup", "--layout", layout, "--root", root, "--out", "unique.json", "--workers", 0


def _more_cases() -> Iterator[Case]:
    for field in (each for each in FIELDS if each.path[-1] in ("candidate", "target", "reference", "target_hard")):
        if field.layout in ("fashioniq", "cirr"):
            for name, value in {each: VALUES[each] for each in ("text", "a huge text", "a text of two lines")}.items():
                make = partial(_named, field.layout, field, value)
                what = f"{field.layout} {field.path[-1]} names no image by {name}"
                yield Case(KIND, what, make, "train.json: (reference|target) .* has no image on disk")
    for layout, file, words in (
        ("cirr", "cirr/captions/cap.rc2.val.json", ""),
        ("fashioniq", _FIQ, ""),
        ("genecis", _GENECIS.format("change_object"), ""),
    ):
        make = partial(_with_file, layout, file, lambda path: edit(path, _twice))
        yield Case(KIND, f"{layout} {Path(file).name} has a record twice", make, words, 0)
    doubled = partial(_with_file, "fashioniq", _FIQ, lambda path: spoil(path, '[{"candidate": "a", "candidate": "b"}]'))
    yield Case(KIND, "fashioniq has a field twice", doubled, "element 0 has the field 'candidate' twice")
    make = partial(_with_file, "circo", _CIRCO, lambda path: edit(path, _twice))
    yield Case(KIND, "circo val.json has a query id twice", make, "query id 0 occurs twice")
    for name, text in {
        "a file with a NUL": json.dumps({"image": "a\0.jpg"}),
        "no image": '{"url": "x"}',
        "a list": "[1]",
        "an image without a name": '{"image": "/a/"}',
    }.items():
        make = partial(_with_file, "part files", "part_0.data", lambda path, text=text: spoil(path, text))
        yield Case(KIND, f"part files part_0.data names {name}", make, "part|images")


def _csv(text: str | bytes, place: Place) -> Any:
    root = place.copy("folder")
    spoil(root / "triplets.csv", text)
    return check("folder", root)


def _table_cases() -> Iterator[Case]:
    row = "mugs/0.png,mugs/1.png,a,val"
    for name, text in {
        "no header": row,
        "no column text": "reference,target\na,b",
        "a cell too many": f"reference,target,text,split\n{row},b",
        "a cell too few": "reference,target,text,split\nmugs/0.png,mugs/1.png",
        "an open quote": f'reference,target,text,split\n"{row}',
        "a column twice": f"reference,target,text,text,split\nmugs/0.png,{row[11:]}",
        "no rows": "reference,target,text\n",
        "a blank reference": "reference,target,text,split\n ,mugs/1.png,a,val",
        "another split": f"reference,target,text,split\n{row}ue",
        "a cell of 200,000 characters": f"reference,target,text,split\n{'x' * 200_000},mugs/1.png,a,val",
    }.items():
        yield Case(KIND, f"folder triplets.csv has {name}", partial(_csv, text), r"triplets\.csv")


def cases() -> list[Case]:
    """Returns the cases of annotation files."""
    return [*_field_cases(), *_file_cases(), *_more_cases(), *_table_cases()]
