"""Target vectors in FAISS: an exact index, or from `EXACT_BELOW` vectors on an index of inverted lists (IVF)."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

# In vectors, not images: an image of 32 tokens has 32 vectors.
EXACT_BELOW = 200_000
# Least recall of the approximate index, as the share of the `_RECALL_AT` nearest vectors of `_SAMPLE` queries.
RECALL = 0.95
_RECALL_AT = 10
_SAMPLE = 100
# k-means of the centres of the lists: it influences the recall far less than `nprobe` does.
_ITERATIONS, _POINTS_A_LIST = 10, 64
# Larger than the difference of float32 dot products that are summed in another order.
_MARGIN = 1e-5
# System errors that FAISS reports as text only.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT)

Score = Callable[[Float32[ndarray, "images tokens dim"]], Float32[ndarray, " images"]]


class Best(NamedTuple):
    """Ids of images and their scores, unordered."""

    ids: Int64[ndarray, " images"]
    scores: Float32[ndarray, " images"]


class Vectors:
    """The targets of images: `tokens` unit-norm vectors an image.

    The FAISS id of a vector is `image id * tokens + position of the token`.

    Args:
        index: the FAISS index.
        tokens: number of vectors of an image.
        recall: measured recall of an approximate index, 0 to 1; None for an exact index.
        mapped: whether the index is a memory-mapped file, which FAISS cannot change.
    """

    def __init__(self, index: Any, tokens: int, recall: float | None = None, mapped: bool = False) -> None:
        self._index = index
        self._mapped = mapped
        self.tokens = tokens
        self.recall = recall

    @classmethod
    def empty(cls, tokens: int, dim: int) -> "Vectors":
        """An exact index without images."""
        return cls(_exact(np.empty(0, np.int64), np.empty((0, dim), np.float32)), tokens)

    def __len__(self) -> int:
        return int(self._index.ntotal) // self.tokens

    @property
    def dim(self) -> int:
        """Dimension of a vector."""
        return int(self._index.d)

    @property
    def approximate(self) -> bool:
        """Whether a search compares only the vectors of the nearest lists."""
        return isinstance(self._index, faiss.IndexIVF)

    def update(
        self,
        ids: Int64[ndarray, " images"],
        targets: Float32[ndarray, "images tokens dim"],
        removed: Int64[ndarray, " removed"],
    ) -> None:
        """Adds images with new ids and removes others.

        The index becomes approximate at `EXACT_BELOW` vectors, and exact again below. The lists are built again when
        the number of vectors is four times that of their last build.
        """
        if self._mapped and (len(ids) or len(removed)):
            self._index, self._mapped = _exact(*_contents(self._index)), False
        if len(removed):
            self._index.remove_ids(self._keys(removed))
        if len(ids):
            self._index.add_with_ids(targets.reshape(-1, self.dim), self._keys(ids))
        self._choose_kind()

    def _keys(self, ids: Int64[ndarray, " images"]) -> Int64[ndarray, " vectors"]:
        return (ids[:, None] * self.tokens + np.arange(self.tokens)).ravel()

    def _choose_kind(self) -> None:
        wanted = self._index.ntotal >= EXACT_BELOW
        outgrown = self.approximate and isqrt(self._index.ntotal) > 2 * self._index.nlist
        if wanted and (outgrown or not self.approximate):
            self._index, self.recall = _inverted(*_contents(self._index))
        elif self.approximate and not wanted:
            self._index, self.recall = _exact(*_contents(self._index)), None

    def targets(self, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images tokens dim"]:
        """The targets of images."""
        found: ndarray = self._index.reconstruct_batch(self._keys(ids))
        return found.reshape(len(ids), self.tokens, self.dim)

    def best(
        self, queries: Float32[ndarray, "queries dim"], counts: Sequence[int], scores: Sequence[Score]
    ) -> list[Best]:
        """Finds at least the `counts[i]` best images of each query `i`, with all images of equal scores.

        The result is exact if the index is exact: no token of an image that is not found is nearer than the last
        vector that is found.

        Args:
            queries: unit norm.
            counts: number of images for each query; a smaller index is returned whole.
            scores: for each query, the function from targets of images to scores: a maximum over their tokens.
        """
        found = [np.empty(0, np.int64)] * len(queries)
        waiting, reach = list(range(len(queries))), (2 * max(counts, default=0) + 8) * min(self.tokens, 4)
        while waiting:
            reach = min(reach, self._index.ntotal)
            values, keys = self._search(queries[waiting], reach)
            for row, query in enumerate(waiting):
                found[query] = self._candidates(values[row], keys[row], counts[query])
            waiting = [
                query
                for row, query in enumerate(waiting)
                if reach < self._index.ntotal and not self._suffices(values[row], keys[row], counts[query])
            ]
            reach *= 4
        return [Best(ids, score(self.targets(ids))) for ids, score in zip(found, scores, strict=True)]

    def _search(
        self, queries: Float32[ndarray, "queries dim"], reach: int
    ) -> tuple[Float32[ndarray, "queries reach"], Int64[ndarray, "queries reach"]]:
        """The `reach` nearest vectors. If the probed lists contain fewer, all lists are searched."""
        values, keys = self._index.search(queries, reach)
        if self.approximate and (keys < 0).any():
            everywhere = faiss.SearchParametersIVF()
            everywhere.nprobe = self._index.nlist
            values, keys = self._index.search(queries, reach, params=everywhere)
        return values, keys

    def _candidates(
        self, values: Float32[ndarray, " reach"], keys: Int64[ndarray, " reach"], count: int
    ) -> Int64[ndarray, " images"]:
        """The images that can be among the `count` best of the vectors found, which are sorted best first."""
        valid = keys >= 0
        ids, first = np.unique(keys[valid] // self.tokens, return_index=True)
        if len(ids) <= count:
            return ids
        best = values[valid][first]
        among: Int64[ndarray, " images"] = ids[best >= np.partition(best, -count)[-count] - _MARGIN]
        return among

    def _suffices(self, values: Float32[ndarray, " reach"], keys: Int64[ndarray, " reach"], count: int) -> bool:
        """Whether at least `count` images have a vector clearly above the last one found."""
        return len(np.unique(keys[values > values[-1] + _MARGIN] // self.tokens)) >= count

    def write(self, path: Path) -> None:
        """Writes a FAISS file. Raises OSError if that fails."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # its text contains the system's message
            code = next((code for code in _WRITE_ERRORS if os.strerror(code) in str(error)), errno.EIO)
            raise OSError(code, os.strerror(code), str(path)) from None

    @classmethod
    def read(cls, path: Path, tokens: int, recall: float | None) -> "Vectors":
        """Reads a file of `write`; an exact index is memory-mapped. Raises RuntimeError, as FAISS does."""
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        mapped = not isinstance(index, faiss.IndexIVF)
        return cls(index if mapped else faiss.read_index(str(path)), tokens, recall, mapped)


def _exact(keys: Int64[ndarray, " vectors"], vectors: Float32[ndarray, "vectors dim"]) -> Any:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, keys)
    return index


def _contents(index: Any) -> tuple[Int64[ndarray, " vectors"], Float32[ndarray, "vectors dim"]]:
    """The keys and the vectors of an index."""
    if isinstance(index, faiss.IndexIVF):
        lists: Any = index.invlists
        parts = (faiss.rev_swig_ptr(lists.get_ids(each), lists.list_size(each)) for each in range(index.nlist))
        keys = np.concatenate([np.array(part) for part in parts])
        return keys, index.reconstruct_batch(keys)
    return faiss.vector_to_array(index.id_map), index.index.reconstruct_n(0, index.ntotal)


def _inverted(keys: Int64[ndarray, " vectors"], vectors: Float32[ndarray, "vectors dim"]) -> tuple[Any, float]:
    """An IVF index with as many lists as the square root of the number of vectors, and its recall."""
    lists = isqrt(len(vectors))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.spherical = _ITERATIONS, _POINTS_A_LIST, True
    index.train(vectors)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
    index.add_with_ids(vectors, keys)
    return index, _probe(index, keys, vectors)


def _probe(index: Any, keys: Int64[ndarray, " vectors"], vectors: Float32[ndarray, "vectors dim"]) -> float:
    """Doubles `nprobe` until the recall against an exact search is at least `RECALL`, and returns the recall.

    A query is the midpoint of two vectors drawn at random, as a composed query is a reference moved towards another
    image. FAISS's `ParameterSpace` tries the same values, except all lists, and drops some by their measured times.
    """
    drawn = np.random.default_rng(0).integers(len(vectors), size=(2, _SAMPLE))
    queries = vectors[drawn].sum(axis=0)
    faiss.normalize_L2(queries)
    _, rows = faiss.knn(queries, vectors, _RECALL_AT, metric=faiss.METRIC_INNER_PRODUCT)
    exact = keys[rows]
    index.nprobe, recall = 1, _share(index, queries, exact)
    while recall < RECALL and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
        recall = _share(index, queries, exact)
    print(
        f"index: {len(vectors)} vectors in {index.nlist} lists, {index.nprobe} of them searched: finds {recall:.1%} of "
        f"the results of an exact search (the {_RECALL_AT} nearest of {_SAMPLE} queries)",
        file=sys.stderr,
    )
    return recall


def _share(index: Any, queries: Float32[ndarray, "queries dim"], exact: Int64[ndarray, "queries nearest"]) -> float:
    """The share of the nearest vectors that the index finds."""
    _, found = index.search(queries, exact.shape[1])
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))
