"""Runs with a fault: metrics files and tables of queries that `compare` and `runs` read, and their options."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.evaluation.score_recipe import RECIPE_KEY
from tests.faults.annotation_cases import ABSENT, FILES_THAT_ARE_NONE, NOT_JSON, OTHER_FORMS, VALUES, put
from tests.faults.attempts import Case
from tests.faults.places import Place, edit, spoil
from tests.faults.words import Words, called

KIND = "runs"
_A, _B = Path("cirr", "a.json"), Path("cirr", "b.json")
_TABLE = _B.with_suffix(".parquet")
_WORDS = r"b\.json"


def _compare(root: Path, *more: object) -> Words:
    return "compare", root / _A, root / _B, *more


def _paper(root: Path, *more: object) -> Words:
    return "compare", root / _B, "--to", "paper", *more


def _page(root: Path) -> Words:
    return _compare(root, "--html", "page.html", "--images", root / "cirr" / "dev")


def _itself(root: Path) -> Words:
    """A run with itself: both have the same recipe, so that it is used."""
    return "compare", root / _B, root / _B


def _runs(root: Path) -> Words:
    return "runs", root / _B


def _changed(change: Callable[[Path], object], call: Callable[[Path], Words], place: Place) -> Words:
    root = place.copy("runs")
    change(root)
    return call(root)


def _metrics(path: Sequence[str], value: Any, root: Path) -> None:
    edit(root / _B, lambda content: put(content, path, value))


def _table(change: Callable[[pa.Table], pa.Table], root: Path) -> None:
    changed = change(pq.read_table(root / _TABLE))
    (root / _TABLE).unlink()  # the file may be a link to that of other cases
    pq.write_table(changed, root / _TABLE)


def _column(name: str, values: Any, table: pa.Table) -> pa.Table:
    """The table with other values in a column: a list, or one value for all rows."""
    rows = pa.array(values if isinstance(values, list) else [values] * len(table))
    return table.set_column(table.column_names.index(name), name, rows)


def _recipe(text: bytes, table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({RECIPE_KEY: text})


def _part(*part: object) -> bytes:
    return json.dumps({"recall_at5": [part]}).encode()


# Half a character is not JSON in UTF-8.
_ANY = ("absent", *(name for name in VALUES if name != "half a character"))
# Entries of a metrics file, the names of the `VALUES` that they may have, and a command that reads them.
_ENTRIES: tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[[Path], Words]], ...] = (
    (("protocol",), ("an object",), _compare),
    (("protocol", "captions"), (), _paper),
    (("protocol", "preprocess"), ("an object", "absent"), _paper),
    (("protocol", "preprocess", "size"), _ANY, _paper),
    (("counts",), (), _compare),
    (("counts", "queries"), ("an object",), _runs),
    (("counts", "gallery"), ("an object",), _compare),
    (("queries",), (), _compare),
    (("recall_at5",), (), _compare),
    (("recall_at10",), ("a number", "a fraction", "a huge number"), _paper),
    (("mean_recall5_subset1",), tuple(name for name in _ANY if name != "NaN"), _runs),
    (("stage1",), ("null", "an object"), _paper),
)
_TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no rows": lambda table: table.slice(0, 0),
    "one row alone": lambda table: table.slice(0, 1),
    "each row twice": lambda table: pa.concat_tables([table, table]),
    "no columns": lambda table: table.select([]),
    "two columns rank": lambda table: table.append_column("rank", table["rank"]),
    "other columns": lambda table: table.select(["split", "query"]),
    "no metadata": lambda table: table.replace_schema_metadata(None),
    **{
        f"{name} is {said}": partial(_column, name, value)
        for name, said, value in (
            ("rank", "null", None),
            ("rank", "null in one row", [None, 1, 1, 1]),
            ("rank", "text", "1"),
            ("rank", "a fraction", 1.5),
            ("rank", "NaN", float("nan")),
            ("rank", "zero", 0),
            ("rank", "negative", -1),
            ("rank", "a list", [[1]] * 4),
            ("rank", "true", True),
            ("subset_rank", "text", "1"),
            ("subset_rank", "a list", [[1]] * 4),
            ("split", "null", None),
            ("split", "a number", 7),
            ("split", "another name", "test"),
            ("query", "null", None),
            ("query", "text", "a"),
            ("reference", "null", None),
            ("reference", "a list", [["a"]] * 4),
            ("target", "an object", [{"a": 1}] * 4),
        )
    },
    **{
        f"the recipe is {said}": partial(_recipe, text)
        for said, text in {
            "empty": b"",
            "no text": b"\xff\xfe",
            "cut": b'{"recall_at5": [["val", "rank"',
            "a list": b"[]",
            "null": b"null",
            "without scores": b"{}",
            "of numbers": b'{"recall_at5": 7}',
            "of a text": b'{"recall_at5": ["val"]}',
            "nested 10,000 times": b"[" * 10_000 + b"]" * 10_000,
            "of an unknown split": _part("dev", "rank", 5, 1.0),
            "of an unknown column": _part("val", "top", 5, 1.0),
            "of a part too short": _part("val", 1.0),
            "of a part too long": _part("val", "rank", 5, 5, 1.0),
            "of k in words": _part("val", "rank", "five", 1.0),
            "of k as null": _part("val", "rank", None, 1.0),
            "of a weight in words": _part("val", "rank", 5, "all"),
            "of a weight that is NaN": _part("val", "rank", 5, float("nan")),
            "of a split that is a list": _part(["val"], "rank", 5, 1.0),
            "of a score that the metrics lack": json.dumps({"map_at5": [["val", "rank", 5, 1.0]]}).encode(),
            "of a column that is absent": _part("val", "target_ranks", 5, 1.0),
        }.items()
    },
}
_PAGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    **{
        f"{name} is {said}": partial(_column, name, value)
        for name, said, value in (
            ("top", "null", None),
            ("top", "a text", "a"),
            ("top", "a list of numbers", [[1]] * 4),
            ("text", "null", None),
            ("text", "a number", 7),
        )
    },
    "no top": lambda table: table.drop_columns(["top"]),
    "no text": lambda table: table.drop_columns(["text"]),
}
_NAMES: dict[str, str] = {
    "another folder": "../../../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "its folder": ".",
    "itself": "b.json",
    "a file that is not there": "gone.parquet",
    "nothing": "",
    "a name of two lines": "a\nb",
    "a name with a zero byte": "a\0b",
    "a name of 5,000 characters": "x" * 5_000,
}


def _no_text(root: Path) -> None:
    spoil(root / _TABLE, b"PAR1" + bytes(64) + b"PAR1")


_TABLE_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda root: spoil(root / _TABLE, b""),
    "zeros": lambda root: spoil(root / _TABLE, bytes(4_096)),
    "zeros between its marks": _no_text,
    "cut": lambda root: spoil(root / _TABLE, (root / _TABLE).read_bytes()[:-40]),
    "without its beginning": lambda root: spoil(root / _TABLE, (root / _TABLE).read_bytes()[40:]),
    "a CSV file": lambda root: spoil(root / _TABLE, "split,query\nval,0\n"),
    "not there": lambda root: (root / _TABLE).unlink(),
    "that of the first run": lambda root: spoil(root / _TABLE, (root / _A).with_suffix(".parquet").read_bytes()),
    **{
        name: lambda root, change=change: change(root / _TABLE)  # type: ignore[misc]
        for name, change in FILES_THAT_ARE_NONE.items()
    },
}


_BOTH = ("compare", "{runs}/cirr/a.json", "{runs}/cirr/b.json")
# What is given, the words, what the message contains, and the status.
_OPTIONS: Sequence[tuple[str, Words, str, int]] = (
    ("no run", ("compare",), "RUN", 2),
    ("one run", _BOTH[:2], "two or more runs", 1),
    ("two runs and the paper", (*_BOTH, "--to", "paper"), "takes one run", 1),
    ("an unknown form", (*_BOTH, "--to", "table"), "--to", 2),
    ("three runs and a page", (*_BOTH, _BOTH[1], "--html", "a.html"), "takes two runs", 1),
    ("images without a page", (*_BOTH, "--images", "{runs}"), "--images", 1),
    ("a page in place of a folder", (*_BOTH, "--html", "folder"), "folder: ", 1),
    ("a page below a file", (*_BOTH, "--html", "file.txt/a.html"), r"file\.txt", 1),
    ("a page on a link to itself", (*_BOTH, "--html", "loop/a.html"), "loop", 1),
    ("figures in place of a folder", (*_BOTH, "--json", "folder"), "folder: ", 1),
    ("figures below a file", (*_BOTH, "--json", "file.txt/a.json"), r"file\.txt", 1),
    ("figures in a pipe", (*_BOTH, "--json", "pipe"), "pipe", 1),
    ("an absent file", (*_BOTH[:2], "gone.json"), r"gone\.json", 1),
    ("a folder", (*_BOTH[:2], "folder"), r"error: folder\b", 1),
    ("a file of text", (*_BOTH[:2], "file.txt"), r"file\.txt", 1),
    ("a link to itself", (*_BOTH[:2], "loop"), "loop", 1),
    ("an empty name", (*_BOTH[:2], ""), "no such metrics file", 1),
    ("a name of 5,000 characters", (*_BOTH[:2], "x" * 5_000), "xxx", 1),
    ("an option of git as a name", (*_BOTH[:2], "HEAD~1^{/--all}"), "HEAD", 1),
    ("a project that is not there", (*_BOTH[:2], "workspace"), "workspace", 1),
    ("a run of another layout", (*_BOTH[:2], "{runs}/fiq/clip.json"), "queries differ", 1),
    ("a run of another data set with a page", (*_BOTH[:2], "{runs}/fiq/clip.json", "--html", "a.html"), "differ", 1),
    ("the runs of no project", ("runs",), "workspace", 1),
    ("a run that is not there", ("runs", "gone.json"), r"gone\.json", 1),
    ("runs of a folder", ("runs", "folder"), r"error: folder\b", 1),
    ("runs of less than all commits", ("runs", "--commits", "-2"), "at least -1", 2),
    ("runs of many commits", ("runs", "--commits", "many"), "a whole number", 2),
    ("runs of half a commit", ("runs", "--commits", "0.5"), "a whole number", 2),
    ("images that are not there", (*_BOTH, "--html", "a.html", "--images", "gone"), "not available", 0),
    ("images of a folder without one", (*_BOTH, "--html", "a.html", "--images", "folder"), "not available", 0),
    ("another data set for one run", (*_BOTH, "--dataset", "none", "--family", "none"), "recall_at5", 0),
    ("a run with itself", (*_BOTH[:2], _BOTH[1]), "recall_at5", 0),
    ("a run with the paper", (*_BOTH[:2], "--to", "paper"), "the paper", 0),
    ("a list of one run", ("runs", _BOTH[1]), "mean_recall5_subset1", 0),
    ("figures that exist", (*_BOTH, "--json", "file.txt"), "written", 0),
)


def cases() -> Iterator[Case]:
    """Yields the cases of runs."""
    for name, change in (NOT_JSON | {each: partial(spoil, content=text) for each, text in OTHER_FORMS.items()}).items():
        make = partial(_changed, lambda root, change=change: change(root / _B), _compare)
        yield Case(
            KIND, f"the metrics file is {name}", make, r"b\.(json|parquet): |b\.json(: | )is a (folder|pipe)|no such"
        )
    for path, valid, call in _ENTRIES:
        for name, value in (VALUES | ({} if path == ("stage1",) else {"absent": ABSENT})).items():
            make = partial(_changed, partial(_metrics, path, value), call)
            words, status = ("recall", 0) if name in valid else (_WORDS, 1)
            yield Case(KIND, f"{'.'.join(path)} is {name}", make, words, status)
    for name, value in _NAMES.items():
        make = partial(_changed, partial(_metrics, ("queries",), value), _compare)
        yield Case(KIND, f"the table is {name}", make, _WORDS)
    for name, change in _TABLE_FILES.items():
        yield Case(KIND, f"the table's file is {name}", partial(_changed, change, _compare), r"[ab]\.(json|parquet)")
    for name, edited in _TABLES.items():
        make = partial(_changed, partial(_table, edited), _itself)
        yield Case(KIND, f"the table: {name}", make, _WORDS)
    for name, edited in _PAGES.items():
        yield Case(KIND, f"the table of a page: {name}", partial(_changed, partial(_table, edited), _page), _WORDS)
    leaves = partial(_table, partial(_column, "top", [["../../../etc/passwd"]] * 4))
    yield Case(KIND, "the table of a page: top leaves the folder", partial(_changed, leaves, _page), "written", 0)
    for name, words, said, status in _OPTIONS:
        yield Case(KIND, f"{name} is given", called(*words), said, status)
