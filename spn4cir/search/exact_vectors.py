"""Target vectors in an exact FAISS index, which compares every vector with a query."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.search.faiss_files import write_faiss
from spn4cir.search.stored_targets import StoredTargets

# Larger than the difference of float32 dot products that are summed in another order.
MARGIN = 1e-5
EXACT_FILE = "vectors.faiss"

Score = Callable[[Float32[ndarray, "images tokens dim"]], Float32[ndarray, " images"]]


class Best(NamedTuple):
    """Ids of images and their scores, unordered."""

    ids: Int64[ndarray, " images"]
    scores: Float32[ndarray, " images"]


class ExactVectors:
    """The targets of images in FAISS's flat index.

    The FAISS id of a vector is `image id * tokens + position of the token`.

    Args:
        index: the FAISS index.
        tokens: number of vectors of an image.
        mapped: whether the index is a memory-mapped file, which FAISS cannot change.
    """

    kind = "exact"

    def __init__(self, index: Any, tokens: int, mapped: bool = False) -> None:
        self._index = index
        self._mapped = mapped
        self.tokens = tokens

    @classmethod
    def empty(cls, tokens: int, dim: int) -> "ExactVectors":
        """An index without images."""
        return cls(_flat(np.empty(0, np.int64), np.empty((0, dim), np.float32)), tokens)

    def __len__(self) -> int:
        return int(self._index.ntotal) // self.tokens

    @property
    def dim(self) -> int:
        """Dimension of a vector."""
        return int(self._index.d)

    def update(self, ids: Int64[ndarray, " images"], new: StoredTargets, removed: Int64[ndarray, " removed"]) -> None:
        """Adds the images of a store under new ids, and removes others."""
        if self._mapped and (len(ids) or len(removed)):
            vectors = self._index.index.reconstruct_n(0, self._index.ntotal)
            self._index, self._mapped = _flat(_keys_of(self._index), vectors), False
        if len(removed):
            self._index.remove_ids(self._keys(removed))
        row = 0
        for _, targets in new.chunks():
            self._index.add_with_ids(targets.reshape(-1, self.dim), self._keys(ids[row : row + len(targets)]))
            row += len(targets)

    def _keys(self, ids: Int64[ndarray, " images"]) -> Int64[ndarray, " vectors"]:
        return (ids[:, None] * self.tokens + np.arange(self.tokens)).ravel()

    def targets(self, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images tokens dim"]:
        """The targets of images."""
        found: ndarray = self._index.reconstruct_batch(self._keys(ids))
        return found.reshape(len(ids), self.tokens, self.dim)

    def move_into(self, stored: StoredTargets) -> None:
        """Appends all images to an empty store."""
        store_contents(self._index, self.tokens, stored)

    def best(
        self, queries: Float32[ndarray, "queries dim"], counts: Sequence[int], scores: Sequence[Score]
    ) -> list[Best]:
        """Finds the best images as `Vectors.best` describes.

        The result is exact: no token of an image that is not found is nearer than the last vector that is found.
        """
        found = [np.empty(0, np.int64)] * len(queries)
        waiting, reach = list(range(len(queries))), (2 * max(counts, default=0) + 8) * min(self.tokens, 4)
        while waiting:
            reach = min(reach, self._index.ntotal)
            values, keys = self._index.search(queries[waiting], reach)
            for row, query in enumerate(waiting):
                found[query] = self._candidates(values[row], keys[row], counts[query])
            waiting = [
                query
                for row, query in enumerate(waiting)
                if reach < self._index.ntotal and not self._suffices(values[row], keys[row], counts[query])
            ]
            reach *= 4
        return [Best(ids, score(self.targets(ids))) for ids, score in zip(found, scores, strict=True)]

    def _candidates(
        self, values: Float32[ndarray, " reach"], keys: Int64[ndarray, " reach"], count: int
    ) -> Int64[ndarray, " images"]:
        """The images that can be among the `count` best of the vectors found, which are sorted best first."""
        ids, first = np.unique(keys // self.tokens, return_index=True)
        among: Int64[ndarray, " images"] = ids[among_best(values[first], count)]
        return among

    def _suffices(self, values: Float32[ndarray, " reach"], keys: Int64[ndarray, " reach"], count: int) -> bool:
        """Whether at least `count` images have a vector clearly above the last one found."""
        return len(np.unique(keys[values > values[-1] + MARGIN] // self.tokens)) >= count

    def write(self, folder: Path) -> None:
        """Writes the FAISS file. Raises OSError if that fails."""
        write_faiss(self._index, folder / EXACT_FILE)

    @classmethod
    def read(cls, folder: Path, tokens: int) -> "ExactVectors":
        """Maps the file of `write`. Raises RuntimeError, as FAISS does, and ValueError for another number of tokens."""
        index = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
        if index.ntotal % tokens:
            raise ValueError(f"{index.ntotal} vectors, {tokens} of which are an image")
        return cls(index, tokens, mapped=True)


def among_best(values: Float32[ndarray, " images"], count: int) -> ndarray:
    """Which images can be among the `count` best, with all that have equal scores: rows or a mask."""
    if len(values) <= count:
        return np.arange(len(values))
    mask: ndarray = values >= np.partition(values, -count)[-count] - MARGIN
    return mask


def store_contents(index: Any, tokens: int, stored: StoredTargets) -> None:
    """Appends the images of a FAISS index, whose keys are those of `ExactVectors`, to an empty store."""
    keys = np.sort(_keys_of(index))
    step = tokens * stored.images_at_once
    for start in range(0, len(keys), step):
        part = keys[start : start + step]
        images = index.reconstruct_batch(part).reshape(-1, tokens, stored.dim)
        stored.append(part[::tokens] // tokens, images)


def _keys_of(index: Any) -> Int64[ndarray, " vectors"]:
    """The keys of a flat index, or of the inverted lists of an earlier version's index."""
    if isinstance(index, faiss.IndexIVF):
        lists: Any = index.invlists
        parts = (faiss.rev_swig_ptr(lists.get_ids(each), lists.list_size(each)) for each in range(index.nlist))
        return np.concatenate([np.array(part) for part in parts])
    keys: ndarray = faiss.vector_to_array(index.id_map)
    return keys


def _flat(keys: Int64[ndarray, " vectors"], vectors: Float32[ndarray, "vectors dim"]) -> Any:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, keys)
    return index
