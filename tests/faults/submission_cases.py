"""Submission files with a fault, and the options of `submit` and `check-submission`."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.annotation_cases import ABSENT, NOT_JSON, OTHER_FORMS, VALUES, put
from tests.faults.attempts import Case
from tests.faults.places import Place, edit, spoil
from tests.faults.words import Words, called

KIND = "submissions"
_QUERIES = Path("cirr", "captions", "cap.rc2.test1.json")
_NAMES = Path("cirr", "image_splits", "split.rc2.test1.json")
_Change = Callable[[Path], object]


def _check(root: Path, name: str, layout: str) -> Words:
    return "check-submission", root / f"{name}.json", "--root", root, "--layout", layout


def _cirr(name: str, change: _Change, place: Place) -> Words:
    root = place.copy("submissions")
    change(root)
    return _check(root, name, "cirr")


def _circo(change: _Change, place: Place) -> Words:
    root = place.copy("circo submissions")
    change(root)
    return _check(root, "map", "circo")


def _edited(name: str, change: Callable[[Any], Any], root: Path) -> None:
    edit(root / f"{name}.json", change)


def _first(content: dict[str, Any]) -> str:
    """The first query id."""
    return next(key for key in content if key.isdecimal())


def _list(change: Callable[[list[Any]], list[Any]]) -> Callable[[dict[str, Any]], None]:
    """Changes the list of the first query."""

    def edited(content: dict[str, Any]) -> None:
        content[_first(content)] = change(content[_first(content)])

    return edited


def _entry(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: put(content, (_first(content),), value)


_LISTS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "a name too many": lambda names: [*names, "test1-8-0-img5"],
    "a name too few": lambda names: names[:-1],
    "no names": lambda names: [],
    "a name twice": lambda names: [names[0], *names[:-1]],
    "its own reference": lambda names: ["test1-0-0-img0", *names[:-1]],
    "a name of no image": lambda names: ["none", *names[1:]],
    "a name with an ending": lambda names: [f"{names[0]}.png", *names[1:]],
    "a path of an image": lambda names: [f"./test1/{names[0]}.png", *names[1:]],
    "a path that leaves": lambda names: ["../../../etc/passwd", *names[1:]],
    "a name in capitals": lambda names: [names[0].upper(), *names[1:]],
    "a name in spaces": lambda names: [f" {names[0]} ", *names[1:]],
    "a number": lambda names: [7, *names[1:]],
    "null": lambda names: [None, *names[1:]],
    "a list": lambda names: [[names[0]], *names[1:]],
}
_CONTENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "lacks a query": lambda content: put(content, (_first(content),), ABSENT),
    "has a query of no data set": lambda content: content.update({"999999": content[_first(content)]}),
    "has a negative query id": lambda content: content.update({"-1": content[_first(content)]}),
    "has a key that is no id": lambda content: content.update({"comment": "a"}),
    "has an empty key": lambda content: content.update({"": []}),
    "has only its header": lambda content: {key: content[key] for key in content if not key.isdecimal()},
    "has no entry": lambda content: {},
    "lacks its header": lambda content: {key: content[key] for key in content if key.isdecimal()},
    "has ids of val": lambda content: {
        f"{int(key) + 10**6}" if key.isdecimal() else key: content[key] for key in content
    },
    "is of the other metric": lambda content: content.update(metric="recall_subset"),
}
_CIRCO: dict[str, Callable[[list[Any]], list[Any]]] = {
    "a name as text": lambda names: [str(names[0]), *names[1:]],
    "a fraction": lambda names: [float(names[0]), *names[1:]],
    "true": lambda names: [True, *names[1:]],
    "NaN": lambda names: [float("nan"), *names[1:]],
    "a negative id": lambda names: [-names[0], *names[1:]],
    "a huge id": lambda names: [10**30, *names[1:]],
    "an id twice": lambda names: [names[0], *names[:-1]],
    "an id too few": lambda names: names[:-1],
    "an id of no image": lambda names: [8, *names[1:]],
}


def _twice(root: Path) -> None:
    path = root / "recall.json"
    spoil(path, path.read_text().replace("{", '{"metric": "recall", ', 1))


def _large(root: Path) -> None:
    path = root / "recall.json"
    spoil(path, path.read_text() + " " * 5_000_000)


def _spaced(root: Path) -> None:
    path = root / "recall.json"
    spoil(path, f"\ufeff \n{path.read_text()}\n\n")


_CHECK = ("check-submission", "{submissions}/recall.json", "--root", "{submissions}")
_SUBMIT = ("submit", "--checkpoint", "{weights}/best.pt", "--workers", 0)
_MINE = (*_SUBMIT, "--root", "{submissions}", "--name", "mine", "--out", "out")
_SMALL = (*_SUBMIT, "--root", "{circo}", "--layout", "circo", "--name", "mine", "--out", "out")
# What is given, the words, what the message contains, and the status.
_OPTIONS: Sequence[tuple[str, Words, str, int]] = (
    ("check: no file", _CHECK[:1], "FILE", 2),
    ("check: no root", _CHECK[:2], "--root", 2),
    ("check: a file that is not there", ("check-submission", "gone.json", *_CHECK[2:]), r"gone\.json", 1),
    ("check: a folder", ("check-submission", "folder", *_CHECK[2:]), r"error: folder\b", 1),
    ("check: a link to itself", ("check-submission", "loop", *_CHECK[2:]), "loop", 1),
    ("check: a device", ("check-submission", "/dev/zero", *_CHECK[2:]), "/dev/zero", 1),
    ("check: the annotations", (*_CHECK[:1], f"{{submissions}}/{_QUERIES}", *_CHECK[2:]), r"test1\.json", 1),
    ("check: a root that is not there", (*_CHECK[:3], "gone"), "gone", 1),
    ("check: a root that is a file", (*_CHECK[:3], "file.txt"), r"file\.txt", 1),
    ("check: a root that is empty", (*_CHECK[:3], "folder"), r"error: folder\b", 1),
    ("check: an unknown layout", (*_CHECK, "--layout", "coco"), "coco", 1),
    ("check: a layout without a server", (*_CHECK, "--layout", "genecis"), "genecis", 1),
    ("check: the layout of another root", (*_CHECK, "--layout", "circo"), r"annotations/test\.json: no such file", 1),
    ("submit: no name", _MINE[:7], "--name", 2),
    *(
        (f"submit: the name {name!r}", (*_MINE[:8], name, *_MINE[9:]), "cannot be part", 1)
        for name in ("", "a/b", "../a", "a b", "a\nb", "é", "a:b", "*")
    ),
    ("submit: a name of 300 characters", (*_MINE[:8], "x" * 300, *_MINE[9:]), "xxx", 1),
    ("submit: an out that is a file", (*_MINE[:-1], "file.txt"), r"file\.txt", 1),
    ("submit: an out below a file", (*_MINE[:-1], "file.txt/a"), r"file\.txt", 1),
    ("submit: an out below a link to itself", (*_MINE[:-1], "loop/a"), "loop", 1),
    ("submit: an out that is a link to itself", (*_MINE[:-1], "loop"), "loop", 1),
    ("submit: a root that is not there", (*_MINE, "--root", "gone"), "gone", 1),
    ("submit: a root that is a file", (*_MINE, "--root", "file.txt"), r"file\.txt", 1),
    ("submit: a root that is empty", (*_MINE, "--root", "folder"), r"error: folder\b", 1),
    ("submit: a root without images", _MINE, "54 of 54 images are not on disk", 1),
    ("submit: a root without images, which are left out", (*_MINE, "--missing", "skip"), "the gallery is empty", 1),
    ("submit: fewer images than the server wants", _SMALL, "expected 50", 1),
    ("submit: an unknown layout", (*_MINE, "--layout", "coco"), "coco", 1),
    ("submit: a layout without a server", (*_MINE, "--layout", "fashioniq"), "fashioniq", 1),
    ("submit: another rule for missing images", (*_MINE, "--missing", "maybe"), "--missing", 2),
    ("submit: an unknown data set", (*_MINE, "--dataset", "none"), "none", 1),
    ("submit: a data set of another layout", (*_MINE, "--dataset", "fiq"), "fiq", 1),
    ("submit: a benchmark as a data set", (*_MINE, "--dataset", "circo"), "circo", 1),
    ("submit: a text for CIRR", (*_MINE, "--query-text", "{{}}"), "query_text", 1),
    ("submit: a text without a field", (*_SMALL, "--query-text", "red"), "red", 1),
    ("submit: a text with half a field", (*_SMALL, "--query-text", "red {"), "red", 1),
    ("submit: a text with an unknown field", (*_SMALL, "--query-text", "{0}"), r"query_text '\{0\}", 1),
    ("submit: a text that reads an attribute", (*_SMALL, "--query-text", "{0.__class__}"), r"query_text '\{0\.", 1),
    ("submit: an empty text", (*_SMALL, "--query-text", ""), "text", 1),
)


def cases() -> Iterator[Case]:
    """Yields the cases of submissions."""
    for name, change in (NOT_JSON | {each: partial(spoil, content=text) for each, text in OTHER_FORMS.items()}).items():
        make = partial(_cirr, "recall", lambda root, change=change: change(root / "recall.json"))
        yield Case(KIND, f"the file is {name}", make, r"recall\.json")
    for key in ("version", "metric"):
        for name, value in (VALUES | {"absent": ABSENT}).items():
            edited = partial(_edited, "recall", partial(put, path=(key,), value=value))
            words = "recall.json: .*" + (key if name != "half a character" else "half")
            yield Case(KIND, f"{key} is {name}", partial(_cirr, "recall", edited), words)
    for name, value in VALUES.items():
        make = partial(_cirr, "recall", partial(_edited, "recall", _entry(value)))
        yield Case(KIND, f"the names are {name}", make, "recall.json: .*(pair 1|half)")
    for metric in ("recall", "recall_subset"):
        for name, listed in _LISTS.items():
            make = partial(_cirr, metric, partial(_edited, metric, _list(listed)))
            yield Case(KIND, f"{metric} lists {name}", make, rf"{metric}\.json: pair ")
    for name, changed in _CONTENTS.items():
        make = partial(_cirr, "recall", partial(_edited, "recall", changed))
        yield Case(KIND, f"the file {name}", make, r"recall\.json: ")
    for name, listed in _CIRCO.items():
        make = partial(_circo, partial(_edited, "map", _list(listed)))
        yield Case(KIND, f"circo lists {name}", make, "map.json: .*query ")
    yield Case(KIND, "the file has its header twice", partial(_cirr, "recall", _twice), "metric: occurs twice")
    yield Case(KIND, "the file is too large", partial(_cirr, "recall", _large), "bytes, expected at most")
    yield Case(KIND, "the file begins with a byte order mark", partial(_cirr, "recall", _spaced), "ok: ", 0)
    for name in ("recall", "recall_subset"):
        yield Case(KIND, f"{name} is whole", partial(_cirr, name, lambda root: None), "ok: ", 0)
    yield Case(KIND, "circo is whole", partial(_circo, lambda root: None), "ok: ", 0)
    for file, what in ((_QUERIES, "the test queries"), (_NAMES, "the test images")):
        for name in ("empty", "cut", "a web page", "a folder", "a link to itself"):
            make = partial(_cirr, "recall", lambda root, file=file, name=name: NOT_JSON[name](root / file))
            yield Case(KIND, f"{what} are {name}", make, r"test1\.json")
    for name, words, said, status in _OPTIONS:
        yield Case(KIND, name, called(*words), said, status)
