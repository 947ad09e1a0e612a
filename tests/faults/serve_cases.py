"""Faults that `serve` finds before it listens: its options, its index, its database and its file of annotations."""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.faults.annotation_cases import NOT_TEXT
from tests.faults.attempts import PASSWORD, SERVES, Case
from tests.faults.places import Place, edit, spoil
from tests.faults.words import Words, called, filled
from tests.helpers.checkpoints import write_checkpoint

KIND = "serve"
_SERVE = ("serve", "--checkpoint", "{weights}/best.pt", "--gallery", "{folder}", "--port", 0, "--workers", 0)
# What is given, the words, what the message contains, and the status.
_OPTIONS: Sequence[tuple[str, Words, str, int]] = (
    ("no weights", (*_SERVE[:1], *_SERVE[3:]), "--checkpoint", 2),
    ("no gallery", _SERVE[:3], "--gallery", 2),
    ("weights that are not there", (*_SERVE, "--checkpoint", "gone.pt"), r"gone\.pt", 1),
    ("weights that are a text", (*_SERVE, "--checkpoint", "file.txt"), r"file\.txt", 1),
    ("a gallery that is not there", (*_SERVE, "--gallery", "gone"), "gone", 1),
    ("a gallery that is a file", (*_SERVE, "--gallery", "file.txt"), r"file\.txt", 1),
    ("a gallery without images", (*_SERVE, "--gallery", "folder"), r"error: folder\b", 1),
    ("a port above all", (*_SERVE, "--port", 65_536), "at most 65535", 2),
    ("a negative port", (*_SERVE, "--port", -1), "at least 0", 2),
    ("a port in words", (*_SERVE, "--port", "http"), "a whole number", 2),
    ("a host that is unknown", (*_SERVE, "--host", "host.invalid"), r"host\.invalid", 1),
    ("a host with a port", (*_SERVE, "--host", "127.0.0.1:80"), r"127\.0\.0\.1:80: no such address", 1),
    ("a host of an address of others", (*_SERVE, "--host", "192.0.2.1"), r"192\.0\.2\.1", 1),
    ("a host of 300 characters", (*_SERVE, "--host", "x" * 300), "--host", 1),
    ("a host with an empty label", (*_SERVE, "--host", "a..b"), "--host", 1),
    ("an index that is not there", (*_SERVE, "--index", "gone"), "gone", 1),
    ("an index that is a file", (*_SERVE, "--index", "file.txt"), r"file\.txt", 1),
    ("an index that is an empty folder", (*_SERVE, "--index", "folder"), r"error: folder\b", 1),
    ("a hub folder as an index", (*_SERVE, "--index", "{hub folder}"), r"is no index \(no index\.json there", 1),
    ("a database and an index", (*_SERVE, "--index", "{index}", "--database", "qdrant:folder/a"), "--database", 1),
    ("a database and annotations", (*_SERVE, "--annotate", "a.csv", "--database", "qdrant:folder/a"), "--database", 1),
    *(
        (f"the database '{address}'", (*_SERVE, "--database", address), "--database", 1)
        for address in (
            "",
            "qdrant",
            "qdrant:",
            "qdrant://",
            "qdrant:a",
            "qdrant:/a",
            "qdrant:a/",
            "qdrant://127.0.0.1",
            "qdrant://127.0.0.1/",
            "qdrant://127.0.0.1/a/b",
            "qdrant://127.0.0.1:x/a",
            "qdrant://127.0.0.1:99999/a",
            f"qdrant://user:{PASSWORD}@127.0.0.1/a",
            f"qdrant://user:{PASSWORD}@127.0.0.1",
            f"qdrant://user:{PASSWORD}@127.0.0.1:x/a",
            f"qdrant://user:{PASSWORD}@[::1/a",
            f"qdrant:user:{PASSWORD}@127.0.0.1/a",
            f"http://user:{PASSWORD}@127.0.0.1:6333/a",
            "qdrant://127.0.0.1/a?b=c",
            "qdrant://[::1/a",
            "http://127.0.0.1:6333/a",
            "file:///etc/passwd",
        )
    ),
    ("a database in no folder", (*_SERVE, "--database", "qdrant:gone/a"), "gone", 1),
    ("a database in a file", (*_SERVE, "--database", "qdrant:file.txt/a"), r"file\.txt", 1),
    ("a database that does not answer", (*_SERVE, "--database", "qdrant://127.0.0.1:9/a"), "does not answer", 1),
    ("a split without annotations", (*_SERVE, "--split", "val"), "--split", 1),
    ("a goal without annotations", (*_SERVE, "--goal", 3), "--goal", 1),
    ("a seed without annotations", (*_SERVE, "--seed", 0), "--seed", 1),
    ("an unknown split", (*_SERVE, "--annotate", "a.csv", "--split", "dev"), "dev", 1),
    ("an empty split", (*_SERVE, "--annotate", "a.csv", "--split", ""), "--split", 1),
    ("a goal of 0", (*_SERVE, "--annotate", "a.csv", "--goal", 0), "at least 1", 2),
    ("a negative seed", (*_SERVE, "--annotate", "a.csv", "--seed", -1), "at least 0", 2),
    ("annotations in a folder", (*_SERVE, "--annotate", "folder"), r"error: folder\b", 1),
    ("annotations in no folder", (*_SERVE, "--annotate", "gone/a.csv"), "gone", 1),
    ("annotations below a file", (*_SERVE, "--annotate", "file.txt/a.csv"), r"file\.txt", 1),
    ("annotations in a link to itself", (*_SERVE, "--annotate", "loop"), "loop", 1),
    ("annotations below a link to itself", (*_SERVE, "--annotate", "loop/a.csv"), "loop", 1),
    ("annotations in a pipe", (*_SERVE, "--annotate", "pipe"), "pipe", 1),
    ("annotations in a parquet file", (*_SERVE, "--annotate", "a.parquet"), r"a\.parquet", 1),
    ("annotations without a name", (*_SERVE, "--annotate", ""), "not a file", 1),
    ("annotations of 300 characters", (*_SERVE, "--annotate", f"{'x' * 300}.csv"), "too long", 1),
)
_VALID: dict[str, str | bytes] = {
    "nothing": b"",
    "a header alone": "reference,target,text,split\n",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "blank lines alone": "\n\n",
    "names of no images": "reference,target,text\na.png,../../etc/passwd,c\n",
    "a row twice": "reference,target,text\na,b,c\na,b,c\n",
    "line ends of Windows": "reference,target,text\r\na,b,c\r\n",
    "a text of two lines": 'reference,target,text\na,b,"c\nd"\n',
}
_ROW = "mugs/0.png,mugs/1.png,is red"
_TABLES: dict[str, str | bytes] = {
    "other columns": "reference,target,caption\na,b,c\n",
    "a column twice": f"reference,target,text,text\n{_ROW},a\n",
    "a column too many": f"reference,target,text,note\n{_ROW},a\n",
    "no header": f"{_ROW}\n",
    "a blank first line": f"\nreference,target,text\n{_ROW}\n",
    "a cell too many": f"reference,target,text\n{_ROW},a\n",
    "a cell too few": "reference,target,text\nmugs/0.png,mugs/1.png\n",
    "an open quote": 'reference,target,text\n"mugs/0.png,mugs/1.png,a\n',
    "text after a quote": 'reference,target,text\n"mugs/0.png"x,mugs/1.png,a\n',
    "a blank name": "reference,target,text\n ,mugs/1.png,a\n",
    "another split": f"reference,target,text,split\n{_ROW},value\n",
    "rows with a group": f"reference,target,text,group\n{_ROW},a\n",
    "a text of zeros": bytes(64),
    "a cell of 200,000 characters": f"reference,target,text\n{'x' * 200_000},mugs/1.png,a\n",
    "a carriage return within a cell": "reference,target,text\nmugs/0.png,mugs/1.png,a\rb,c\n",
    "JSON": '[{"reference": "a", "target": "b", "text": "c"}]',
    "separators of another kind": "reference;target;text\na;b;c\n",
}


def _annotated(change: Callable[[Path], object], more: Words, place: Place) -> Words:
    file = spoil(place.work / "a.csv", f"reference,target,text,split\n{_ROW},val\n")
    change(file)
    return filled((*_SERVE, "--annotate", file, *more), place)


def _without_split(file: Path) -> None:
    spoil(file, f"reference,target,text\n{_ROW}\n")


def _taken(place: Place) -> Words:
    """A port on which another socket listens, which is closed when no case refers to it."""
    _LISTENING.append(socket.create_server(("127.0.0.1", 0)))
    return filled((*_SERVE, "--port", _LISTENING[-1].getsockname()[1]), place)


_LISTENING: list[socket.socket] = []


def _spoiled_index(change: Callable[[Path], object], place: Place) -> Words:
    root = place.copy("index")
    change(root)
    return filled((*_SERVE, "--index", root), place)


def _of_others(place: Place) -> Words:
    other = write_checkpoint(place.data / "other.pt", seed=1)
    return filled((*_SERVE, "--checkpoint", other, "--index", "{index}"), place)


_INDEXES: dict[str, Callable[[Path], object]] = {
    "a cut manifest": lambda root: spoil(root / "index.json", (root / "index.json").read_bytes()[:-20]),
    "a manifest that is a list": lambda root: spoil(root / "index.json", "[]"),
    "a manifest of another format": lambda root: edit(root / "index.json", lambda content: content.update(format=9)),
    "a cut table": lambda root: spoil(root / "pictures.parquet", (root / "pictures.parquet").read_bytes()[:-20]),
    "no table": lambda root: (root / "pictures.parquet").unlink(),
}


def cases() -> Iterator[Case]:
    """Yields the cases of the server."""
    for name, words, said, status in _OPTIONS:
        yield Case(KIND, f"{name} is given", called(*words), said, status)
    for name, text in _TABLES.items():
        make = partial(_annotated, partial(spoil, content=text), ())
        yield Case(KIND, f"annotations with {name}", make, r"a\.csv")
    for name, change in NOT_TEXT.items():
        words = "is a link" if "link" in name else r"a\.csv"
        yield Case(KIND, f"annotations that are {name}", partial(_annotated, change, ()), words)
    split = partial(_annotated, _without_split, ("--split", "train"))
    yield Case(KIND, "a split of annotations without one", split, "state no split")
    yield Case(KIND, "a port that is taken", _taken, "choose another with --port")
    for name, change in _INDEXES.items():
        yield Case(
            KIND,
            f"an index with {name}",
            partial(_spoiled_index, change),
            r"(index\.json|pictures\.parquet): |format 9",
        )
    for name, text in _VALID.items():
        make = partial(_annotated, partial(spoil, content=text), ())
        yield Case(KIND, f"annotations with {name}", make, SERVES, 0)
    yield Case(KIND, "an index of other weights", _of_others, "with other weights")
