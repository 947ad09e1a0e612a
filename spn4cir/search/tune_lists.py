"""The search parameters of inverted lists, chosen for a wanted recall, which is measured against an exact search."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from spn4cir.search.inverted_lists import LISTS_FILE, InvertedLists, probing
from spn4cir.search.stored_targets import StoredTargets

# Candidates whose exact score is computed, at least.
LEAST_CANDIDATES = 64
_MOST_CANDIDATES = 65_536
RECALL_AT = 10
_SAMPLE = 100
# Images that are compared with all queries at a time: the scores and ids of a few thousand vectors would take more
# memory than the vectors, if these are short.
_COMPARED = 1 << 12


def tune_lists(lists: InvertedLists, stored: StoredTargets, wanted: float) -> None:
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
    lists.files.pop(LISTS_FILE, None)  # it contains the number of lists
    print(
        f"index: {len(stored)} vectors in {index.nlist} lists ({lists.kind}), {index.nprobe} of them searched, "
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
    _, ids = index.search(queries, depth, params=probing(probes))
    hits = sum((ids == exact[:, [column]]).sum(axis=0) for column in range(exact.shape[1]))
    shares: ndarray = np.cumsum(hits) / exact.size
    return shares


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
    for some, vectors in stored.chunks():
        for start in range(0, len(some), _COMPARED):
            ids, targets = some[start : start + _COMPARED], vectors[start : start + _COMPARED]
            products = targets.reshape(-1, stored.dim) @ queries.T
            scores = products.reshape(len(ids), stored.tokens, len(queries)).max(axis=1).T
            best = np.concatenate([best, scores], axis=1)
            found = np.concatenate([found, np.broadcast_to(ids, scores.shape)], axis=1)
            if best.shape[1] > RECALL_AT:
                top = np.argpartition(-best, RECALL_AT - 1, axis=1)[:, :RECALL_AT]
                best, found = np.take_along_axis(best, top, 1), np.take_along_axis(found, top, 1)
    return found
