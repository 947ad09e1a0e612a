"""Captions that are finished, in append-only files of which each is read once."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from spn4cir.packed import TextsByHash
from spn4cir.positives.finished_work import append_finished, read_finished

_FIELDS = ("image_id", "inputs", "caption")


class StoredCaptions:
    """Captions of one word count by image name and hash of their inputs, packed in memory and in a file.

    Args:
        path: the file; none of its captions is known if it is absent.

    Raises:
        InputError: a line of the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._captions = TextsByHash()
        self._names: set[int] = set()  # a name takes less memory as its hash; two names of one only cost a look-up
        for record in read_finished(path, _FIELDS):
            self._remember(record)

    def has(self, name: str) -> bool:
        """Whether there may be a caption of an image; False if there is none, so that its file need not be read."""
        return hash(name) in self._names

    def get(self, name: str, inputs: str) -> str | None:
        """Returns the caption of an image, or None if none was made from these inputs."""
        return self._captions.get(_key(name, inputs))

    def add(self, records: Sequence[Mapping[str, str]]) -> None:
        """Adds records `{image_id, inputs, caption}` and returns when they are on disk."""
        append_finished(self._path, records)
        for record in records:
            self._remember(record)

    def _remember(self, record: Mapping[str, str]) -> None:
        self._captions[_key(record["image_id"], record["inputs"])] = str(record["caption"])
        self._names.add(hash(record["image_id"]))


class CaptionStore:
    """The work folder of one captioner, with a file for each word count.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, StoredCaptions] = {}

    def of(self, words: int) -> StoredCaptions:
        """Returns the captions of a word count; its file is read at the first call."""
        if words not in self._files:
            self._files[words] = StoredCaptions(self._folder / f"{words}.jsonl")
        return self._files[words]


def _key(name: str, inputs: str) -> bytes:
    return hashlib.sha256(f"{inputs} {name}".encode("utf-8", "surrogatepass")).digest()
