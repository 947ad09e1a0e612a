"""Inverted lists (IVF) in FAISS over one vector an image: search, change, and the files."""

from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.search.faiss_files import write_faiss
from spn4cir.search.mapped_files import MappedFile
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.temporary_file import TemporaryFile

ListKind = Literal["ivf", "ivf-pq"]
_MOST_LISTS = 4_096
LISTS_FILE, DATA_FILE = "lists.faiss", "lists.ivfdata"
FILES = (LISTS_FILE, DATA_FILE)


def retrieval_vectors(targets: Float32[ndarray, "images tokens dim"]) -> Float32[ndarray, "images dim"]:
    """The vector by which an image is retrieved: its only one, or the normalised mean of its tokens."""
    if targets.shape[1] == 1:
        return np.ascontiguousarray(targets[:, 0], np.float32)
    pooled: ndarray = targets.mean(axis=1, dtype=np.float32)
    faiss.normalize_L2(pooled)
    return pooled


def list_count(images: int) -> int:
    """The number of lists of an index of that many images."""
    return max(1, min(isqrt(images), _MOST_LISTS))


@dataclass
class InvertedLists:
    """Inverted lists of images.

    Attributes:
        index: the FAISS index; its keys are ids of images, and it contains `nprobe`.
        candidates: number of images whose exact scores are computed for up to 20 results.
        recall: measured share of the 10 best images of an exact search that a search finds, 0 to 1.
        temporary: temporary file of lists on the disk; None: they are in memory or in the folder of an index.
        files: the files of these lists by the name that an index gives them; empty for lists in memory.
    """

    index: Any
    candidates: int
    recall: float
    temporary: TemporaryFile | None = None
    files: dict[str, MappedFile] = field(default_factory=dict)

    @property
    def kind(self) -> ListKind:
        """`ivf-pq` for lists of product codes, else `ivf`."""
        return "ivf-pq" if isinstance(self.index, faiss.IndexIVFPQ) else "ivf"

    def change(
        self, stored: StoredTargets | None, ids: Int64[ndarray, " images"], removed: Int64[ndarray, " removed"]
    ) -> None:
        """Adds the images of a store under `ids`, and removes others. The lists are in memory after that."""
        _load(self.index)
        self.files = {}
        if len(removed):
            self.index.remove_ids(removed)
        row = 0
        for _, targets in stored.chunks() if stored is not None else ():
            self.index.add_with_ids(retrieval_vectors(targets), ids[row : row + len(targets)])
            row += len(targets)

    def search(
        self, queries: Float32[ndarray, "queries dim"], depth: int, least: int
    ) -> Int64[ndarray, "queries depth"]:
        """The ids of the `depth` nearest images, -1 for none.

        If the searched lists contain fewer than `least`, all lists are searched.
        """
        _, ids = self.index.search(queries, depth)
        few = (ids >= 0).sum(axis=1) < min(least, self.index.ntotal)
        if few.any():
            ids[few] = self.index.search(queries[few], depth, params=probing(self.index.nlist))[1]
        found: ndarray = ids
        return found

    def write(self, folder: Path) -> None:
        """Writes the lists. Raises OSError if that fails."""
        if self.files and all(file.unchanged for file in self.files.values()):
            for name, file in self.files.items():
                file.link_to(folder / name)
            if (folder / LISTS_FILE).exists():
                return
        else:
            _load(self.index)
        write_faiss(self.index, folder / LISTS_FILE)

    @classmethod
    def read(cls, folder: Path, candidates: int, recall: float) -> "InvertedLists":
        """Maps the files of `write`. Raises RuntimeError, as FAISS does."""
        index: Any = faiss.read_index(str(folder / LISTS_FILE), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        names = [LISTS_FILE]
        if (data := folder / DATA_FILE).exists():
            lists: Any = faiss.downcast_InvertedLists(index.invlists)
            lists.filename = str(data)
            lists.do_mmap()
            names.append(DATA_FILE)
        return cls(index, candidates, recall, files={name: MappedFile.of(folder / name) for name in names})


def _load(index: Any) -> None:
    """Copies lists on the disk into memory, as files of an index are never changed."""
    lists = faiss.downcast_InvertedLists(index.invlists)
    if isinstance(lists, faiss.ArrayInvertedLists):
        return
    copy: Any = faiss.ArrayInvertedLists(index.nlist, index.code_size)
    for number in range(index.nlist):
        if size := lists.list_size(number):
            copy.add_entries(number, size, lists.get_ids(number), lists.get_codes(number))
    index.replace_invlists(copy, True)
    copy.this.disown()


def probing(lists: int) -> Any:
    """Parameters of a search in that many lists."""
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = lists
    return parameters
