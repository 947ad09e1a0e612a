"""Builds inverted lists in bounded memory: trained on a sample, filled in shards, and merged on the disk."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.files import disk_errors, require_space
from spn4cir.progress import progress
from spn4cir.search.faiss_files import write_faiss
from spn4cir.search.inverted_lists import DATA_FILE, InvertedLists, ListKind, list_count, retrieval_vectors
from spn4cir.search.mapped_files import MappedFile
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.temporary_file import TemporaryFile
from spn4cir.search.tune_lists import LEAST_CANDIDATES, tune_lists

# Product quantisation needs as many vectors to train on as a byte has values.
LEAST_FOR_PQ = 256
# k-means of the centres of the lists: it influences the recall far less than the number of searched lists does.
_ITERATIONS, _POINTS_A_LIST = 10, 64
_POINTS_FOR_CODES = 65_536
# Product quantisation encodes at least this number of dimensions in a byte.
_DIMENSIONS_A_BYTE = 4
# Rows that are read at random before their pages of mapped files are released.
_DRAWN_AT_ONCE = 8_192
# Bytes of lists that are filled in memory; larger ones are filled in shards of so many bytes and merged on the disk.
IN_MEMORY, SHARD_BYTES = 1 << 30, 1 << 28
_ID_BYTES = 8


def build_lists(stored: StoredTargets, kind: ListKind, wanted: float) -> InvertedLists:
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
        lists = InvertedLists(index, LEAST_CANDIDATES, 0.0)
    else:
        data = _fill_on_disk(index, stored)
        lists = InvertedLists(index, LEAST_CANDIDATES, 0.0, data, {DATA_FILE: MappedFile.of(data.path)})
    tune_lists(lists, stored, wanted)
    return lists


def _train(stored: StoredTargets, kind: ListKind) -> Any:
    """An empty index whose centres and codes are trained on a random sample."""
    count, dim = list_count(len(stored)), stored.dim
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


def _fill_on_disk(index: Any, stored: StoredTargets) -> TemporaryFile:
    """Fills an empty index with lists in a temporary file."""
    place = Path(tempfile.gettempdir())
    with disk_errors(place):
        size = 2 * len(stored) * (index.code_size + _ID_BYTES)
        require_space(place, size, "free some room, or set TMPDIR to a folder on another disk")
        data = TemporaryFile()
        _merge(index, list(_shards(index, stored)), data.path)
    return data


def _shards(index: Any, stored: StoredTargets) -> Iterator[TemporaryFile]:
    """Yields files of parts of the lists."""
    part = faiss.clone_index(index)
    for ids, targets in _chunks(stored):
        part.add_with_ids(retrieval_vectors(targets), ids)
        if part.ntotal * index.code_size >= SHARD_BYTES:
            yield _written(part)
            part = faiss.clone_index(index)
    if part.ntotal:
        yield _written(part)


def _written(part: Any) -> TemporaryFile:
    file = TemporaryFile()
    write_faiss(part, file.path)
    return file


def _merge(trained: Any, shards: Sequence[TemporaryFile], path: Path) -> None:
    """Fills an empty index with lists on the disk, which contain those of the shards.

    As `faiss.contrib.ondisk.merge_ondisk` does, which keeps the shards mapped, and so their disk space, for ever.
    """
    parts: list[Any] = [faiss.read_index(str(shard.path), faiss.IO_FLAG_MMAP) for shard in shards]
    sources = faiss.InvertedListsPtrVector()  # type: ignore[attr-defined]
    for part in parts:
        sources.push_back(part.invlists)
    lists: Any = faiss.OnDiskInvertedLists(trained.nlist, trained.code_size, str(path))
    with _without_lines(b"resizing "):  # FAISS prints the size of the file
        trained.ntotal = lists.merge_from_multiple(sources.data(), sources.size(), False)
    trained.replace_invlists(lists, True)
    lists.this.disown()


@contextmanager
def _without_lines(start: bytes) -> Iterator[None]:
    """Leaves out lines that a library prints to the standard output of this process, which is a command's result."""
    flush, saved = ctypes.CDLL(None).fflush, os.dup(1)
    with tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        flush(None)
        os.dup2(printed.fileno(), 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(saved, 1)
            os.close(saved)
            printed.seek(0)
            os.write(1, b"".join(line for line in printed if not line.startswith(start)))
