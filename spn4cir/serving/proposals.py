"""The order in which images are proposed as references, so that the first ones of it cover the gallery."""

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.search.index import ImageIndex

_ITERATIONS = 10
_POINTS_A_CLUSTER = 256
_CHUNK = 8_192


def proposal_order(index: ImageIndex, clusters: int, seed: int) -> tuple[str, ...]:
    """The names of the images in a random order that is spread over the gallery.

    The images are clustered by k-means of their targets. Among the first images of the order, each cluster has about
    its share of the gallery (stratified sampling). Of images with equal crops, only one is proposed.

    Args:
        index: the images.
        clusters: number of clusters; about the number of references that will be used.
        seed: seed of the clusters and of the order in them, at least 0.
    """
    named = {index.table[name].vector: name for name in reversed(index.names)}
    ids = np.array(sorted(named, key=named.__getitem__), np.int64)
    assigned, random = _assign(index, ids, min(clusters, len(ids)), seed), np.random.default_rng(seed)
    place = np.empty(len(ids))
    for cluster in np.unique(assigned):
        members = random.permutation(np.flatnonzero(assigned == cluster))
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return tuple(named[each] for each in ids[np.argsort(place, kind="stable")].tolist())


def _assign(index: ImageIndex, ids: Int64[ndarray, " images"], clusters: int, seed: int) -> Int64[ndarray, " images"]:
    """The cluster of each image; k-means is trained on a sample of a large gallery."""
    drawn = np.random.default_rng(seed).permutation(len(ids))[: clusters * _POINTS_A_CLUSTER]
    sample = _mean_targets(index, ids[np.sort(drawn)])
    means = faiss.Kmeans(sample.shape[1], clusters, niter=_ITERATIONS, seed=seed, min_points_per_centroid=1)
    means.train(sample)
    parts = [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
    return np.concatenate([means.assign(_mean_targets(index, part))[1] for part in parts])


def _mean_targets(index: ImageIndex, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images dim"]:
    """The targets of images, averaged over the tokens of each."""
    found: ndarray = index.require_vectors().targets(ids).mean(axis=1)
    return np.ascontiguousarray(found, np.float32)
