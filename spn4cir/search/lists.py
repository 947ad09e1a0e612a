"""Inverted lists (IVF) in FAISS over one vector an image, built in shards, with a measured recall."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from spn4cir.files import disk_errors, require_space
from spn4cir.progress import progress
from spn4cir.search.faiss_files import write_faiss
from spn4cir.search.mapped_files import MappedFile
from spn4cir.search.stored_targets import StoredTargets

ListKind = Literal["ivf", "ivf-pq"]
# Product quantisation needs as many vectors to train on as a byte has values.
LEAST_FOR_PQ = 256
# Candidates whose exact score is computed, at least.
LEAST_CANDIDATES = 64
_MOST_CANDIDATES = 65_536
RECALL_AT = 10
_SAMPLE = 100
_MOST_LISTS = 4_096
# k-means of the centres of the lists: it influences the recall far less than the number of searched lists does.
_ITERATIONS, _POINTS_A_LIST = 10, 64
_POINTS_FOR_CODES = 65_536
# Least number of dimensions that a byte of product quantisation stands for.
_DIMENSIONS_A_BYTE = 4
# Rows that are read at random before their pages of mapped files are released.
_DRAWN_AT_ONCE = 8_192
# Bytes of lists that are filled in memory; larger ones are filled in shards of so many bytes and merged on the disk.
IN_MEMORY, SHARD_BYTES = 1 << 30, 1 << 28
_INDEX, _DATA = "lists.faiss", "lists.ivfdata"
FILES = (_INDEX, _DATA)
_ID_BYTES = 8


def retrieval_vectors(targets: Float32[ndarray, "images tokens dim"]) -> Float32[ndarray, "images dim"]:
    """The vector by which an image is retrieved: its only one, or the normalised mean of its tokens."""
    if targets.shape[1] == 1:
        return np.ascontiguousarray(targets[:, 0], np.float32)
    pooled: ndarray = targets.mean(axis=1, dtype=np.float32)
    faiss.normalize_L2(pooled)
    return pooled


@dataclass
class Lists:
    """Inverted lists of images.

    Attributes:
        index: the FAISS index; its keys are ids of images, and it contains `nprobe`.
        candidates: number of images whose exact scores are computed for up to 20 results.
        recall: measured share of the 10 best images of an exact search that a search finds, 0 to 1.
        temporary: temporary folder of lists on the disk; None: they are in memory or in `source`.
        files: the files of these lists; empty for lists in memory.
    """

    index: Any
    candidates: int
    recall: float
    temporary: "tempfile.TemporaryDirectory[str] | None" = None
    files: tuple[MappedFile, ...] = ()

    @property
    def kind(self) -> ListKind:
        """`ivf-pq` for lists of product codes, else `ivf`."""
        return "ivf-pq" if isinstance(self.index, faiss.IndexIVFPQ) else "ivf"

    @property
    def outgrown(self) -> bool:
        """Whether the number of images is about four times that of the last build."""
        return _list_count(self.index.ntotal) > 2 * int(self.index.nlist)

    def change(
        self, stored: StoredTargets | None, ids: Int64[ndarray, " images"], removed: Int64[ndarray, " removed"]
    ) -> None:
        """Adds the images of a store under `ids`, and removes others. The lists are in memory after that."""
        _load(self.index)
        self.files = ()
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
            ids[few] = self.index.search(queries[few], depth, params=_probing(self.index.nlist))[1]
        found: ndarray = ids
        return found

    def write(self, folder: Path) -> None:
        """Writes the lists. Raises OSError if that fails."""
        if self.files and all(file.unchanged for file in self.files):
            for file in self.files:
                file.link_to(folder / file.path.name)
            if (folder / _INDEX).exists():
                return
        else:
            _load(self.index)
        write_faiss(self.index, folder / _INDEX)

    @classmethod
    def read(cls, folder: Path, candidates: int, recall: float) -> "Lists":
        """Maps the files of `write`. Raises RuntimeError, as FAISS does."""
        index: Any = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        files = [folder / _INDEX]
        if (data := folder / _DATA).exists():
            lists: Any = faiss.downcast_InvertedLists(index.invlists)
            lists.filename = str(data)
            lists.do_mmap()
            files.append(data)
        return cls(index, candidates, recall, files=tuple(map(MappedFile.of, files)))


def build_lists(stored: StoredTargets, kind: ListKind, wanted: float) -> Lists:
    """Builds lists of all images of a store, in bounded memory.

    The lists are trained on a sample and filled chunk by chunk: above 1 GB, in shards that are merged on the disk. Then
    the numbers of searched lists and of candidates are chosen so that the recall is at least `wanted`.

    Raises:
        InputError: the disk of temporary files has no room.
    """
    index = _train(stored, kind)
    if len(stored) * (index.code_size + _ID_BYTES) <= IN_MEMORY:
        for ids, targets in _chunks(stored):
            index.add_with_ids(retrieval_vectors(targets), ids)
        lists = Lists(index, LEAST_CANDIDATES, 0.0)
    else:
        folder = _fill_on_disk(index, stored)
        lists = Lists(index, LEAST_CANDIDATES, 0.0, folder, (MappedFile.of(Path(folder.name, _DATA)),))
    tune_lists(lists, stored, wanted)
    return lists


def _list_count(images: int) -> int:
    return max(1, min(isqrt(images), _MOST_LISTS))


def _train(stored: StoredTargets, kind: ListKind) -> Any:
    """An empty index whose centres and codes are trained on a random sample."""
    count, dim = _list_count(len(stored)), stored.dim
    centres = faiss.IndexFlatIP(dim)
    index: Any
    if kind == "ivf":
        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(centres, dim, count, half, faiss.METRIC_INNER_PRODUCT, False)
    else:
        step = next(step for step in range(min(_DIMENSIONS_A_BYTE, dim), dim + 1) if dim % step == 0)
        index = faiss.IndexIVFPQ(centres, dim, count, dim // step, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter, index.pq.cp.min_points_per_centroid = _ITERATIONS, 1
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.spherical = _ITERATIONS, _POINTS_A_LIST, True
    index.cp.min_points_per_centroid = 1
    wanted = max(count * _POINTS_A_LIST, _POINTS_FOR_CODES if kind == "ivf-pq" else 0)
    ids = stored.ids
    drawn = np.random.default_rng(0).permutation(len(ids))[:wanted]
    index.train(_sampled(stored, ids[np.sort(drawn)]))
    return index


def _sampled(stored: StoredTargets, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images dim"]:
    sample = np.empty((len(ids), stored.dim), np.float32)
    step = min(stored.images_at_once, _DRAWN_AT_ONCE)
    for start in range(0, len(ids), step):
        sample[start : start + step] = retrieval_vectors(stored.targets(ids[start : start + step]))
        stored.release()
    return sample


def _chunks(stored: StoredTargets) -> Iterator[tuple[ndarray, ndarray]]:
    return progress(stored.chunks(), stored.chunk_count, "lists", "chunk")


def _fill_on_disk(index: Any, stored: StoredTargets) -> "tempfile.TemporaryDirectory[str]":
    """Fills an empty index with lists in a temporary folder."""
    place = Path(tempfile.gettempdir())
    with disk_errors(place):
        size = 2 * len(stored) * (index.code_size + _ID_BYTES)
        require_space(place, size, "free some room, or set TMPDIR to a folder on another disk")
        folder = tempfile.TemporaryDirectory(prefix="spn4cir-lists-", dir=place)
        _merge(index, list(_shards(index, stored, Path(folder.name))), Path(folder.name, _DATA))
    return folder


def _shards(index: Any, stored: StoredTargets, folder: Path) -> Iterator[Path]:
    """Yields files of parts of the lists."""
    part, number = faiss.clone_index(index), 0
    for ids, targets in _chunks(stored):
        part.add_with_ids(retrieval_vectors(targets), ids)
        if part.ntotal * index.code_size >= SHARD_BYTES:
            yield _written(part, folder / f"{number}.faiss")
            part, number = faiss.clone_index(index), number + 1
    if part.ntotal:
        yield _written(part, folder / f"{number}.faiss")


def _written(part: Any, path: Path) -> Path:
    write_faiss(part, path)
    return path


def _merge(trained: Any, shards: Sequence[Path], path: Path) -> None:
    """Fills an empty index with lists on the disk, which contain those of the shards; removes the shards.

    As `faiss.contrib.ondisk.merge_ondisk` does, which keeps the shards mapped, and so their disk space, for ever.
    """
    parts: list[Any] = [faiss.read_index(str(shard), faiss.IO_FLAG_MMAP) for shard in shards]
    sources = faiss.InvertedListsPtrVector()  # type: ignore[attr-defined]
    for part in parts:
        sources.push_back(part.invlists)
    lists: Any = faiss.OnDiskInvertedLists(trained.nlist, trained.code_size, str(path))
    with _stdout_to_stderr():  # FAISS prints the size of the file
        trained.ntotal = lists.merge_from_multiple(sources.data(), sources.size(), False)
    trained.replace_invlists(lists, True)
    lists.this.disown()
    for shard in shards:
        shard.unlink()


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Sends what a library prints to stderr, because the standard output of commands is their result."""
    flush, saved = ctypes.CDLL(None).fflush, os.dup(1)
    sys.stdout.flush()
    flush(None)
    os.dup2(2, 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(saved, 1)
        os.close(saved)


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


def tune_lists(lists: Lists, stored: StoredTargets, wanted: float) -> None:
    """Chooses the number of searched lists and of candidates, measures the recall, and prints it.

    A query is the midpoint of two vectors of images that are drawn at random, as a composed query is a reference moved
    towards another image. The first depth of candidates and the fewest lists are taken with which the recall comes a
    quarter nearer to 1 than `wanted`; then the fewest candidates with which it is `wanted`.
    """
    queries = _midpoints(stored)
    exact = _nearest(stored, queries)
    index, depth, higher = lists.index, 16 * LEAST_CANDIDATES, wanted + (1 - wanted) / 4
    most = min(len(stored), _MOST_CANDIDATES)
    while True:
        depth = min(depth, most)
        index.nprobe = _fewest(partial(_suffices, index, queries, exact, depth, higher), index.nlist)
        shares = _found(index, queries, exact, depth, index.nprobe)
        if shares[-1] >= higher or depth == most:
            break
        depth *= 4
    enough = np.flatnonzero(shares >= wanted)
    lists.candidates = max(LEAST_CANDIDATES, int(enough[0]) + 1 if len(enough) else depth)
    lists.recall = float(shares[min(lists.candidates, depth) - 1])
    lists.files = tuple(file for file in lists.files if file.path.name != _INDEX)  # it contains the number of lists
    print(
        f"index: {len(stored)} images in {index.nlist} lists ({lists.kind}), {index.nprobe} of them searched, "
        f"{lists.candidates} candidates scored: finds {lists.recall:.1%} of the results of an exact search (the "
        f"{RECALL_AT} best of {len(queries)} queries)",
        file=sys.stderr,
    )


def _fewest(suffices: Callable[[int], bool], most: int) -> int:
    """About the smallest number from 1 to `most` that suffices, by doubling and bisection; `most` if none does."""
    above = 1
    while not suffices(above):
        if above == most:
            return most
        above = min(2 * above, most)
    below = above // 2
    while above - below > max(1, above // 8):
        middle = (above + below) // 2
        above, below = (middle, below) if suffices(middle) else (above, middle)
    return above


def _suffices(index: Any, queries: ndarray, exact: ndarray, depth: int, wanted: float, probes: int) -> bool:
    return bool(_found(index, queries, exact, depth, probes)[-1] >= wanted)


def _found(
    index: Any,
    queries: Float32[ndarray, "queries dim"],
    exact: Int64[ndarray, "queries nearest"],
    depth: int,
    probes: int,
) -> Float64[ndarray, " depth"]:
    """The share of the exact results that are among the first 1, 2, ... `depth` candidates."""
    _, ids = index.search(queries, depth, params=_probing(probes))
    hits = sum((ids == exact[:, [column]]).sum(axis=0) for column in range(exact.shape[1]))
    shares: ndarray = np.cumsum(hits) / exact.size
    return shares


def _probing(lists: int) -> Any:
    """Parameters of a search in that many lists."""
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = lists
    return parameters


def _midpoints(stored: StoredTargets) -> Float32[ndarray, "queries dim"]:
    random, ids = np.random.default_rng(0), stored.ids
    first, second = (stored.targets(ids[random.integers(len(ids), size=_SAMPLE)]) for _ in range(2))
    row = np.arange(_SAMPLE)
    one, other = (each[row, random.integers(stored.tokens, size=_SAMPLE)] for each in (first, second))
    queries: ndarray = one + other
    faiss.normalize_L2(queries)
    return queries


def _nearest(stored: StoredTargets, queries: Float32[ndarray, "queries dim"]) -> Int64[ndarray, "queries nearest"]:
    """The ids of the best images of an exact search: the largest product with a token."""
    best = np.full((len(queries), 0), -np.inf, np.float32)
    found = np.empty((len(queries), 0), np.int64)
    for ids, targets in stored.chunks():
        products = targets.reshape(-1, stored.dim) @ queries.T
        scores = products.reshape(len(ids), stored.tokens, len(queries)).max(axis=1).T
        best = np.concatenate([best, scores], axis=1)
        found = np.concatenate([found, np.broadcast_to(ids, scores.shape)], axis=1)
        if best.shape[1] > RECALL_AT:
            top = np.argpartition(-best, RECALL_AT - 1, axis=1)[:, :RECALL_AT]
            best, found = np.take_along_axis(best, top, 1), np.take_along_axis(found, top, 1)
    return found
