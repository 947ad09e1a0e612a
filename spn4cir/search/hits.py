"""The hits of queries in an index."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.search.encode import BATCH_SIZE, compose, encode_black, encode_pixels
from spn4cir.search.exact_vectors import Best
from spn4cir.search.index import ImageIndex
from spn4cir.search.query import Query


@dataclass(frozen=True)
class Hit:
    """An image of the gallery that a search found.

    Attributes:
        name: its name in the gallery.
        score: its similarity to the query: the cosine, of the best token if an image has several.
        path: the path of its file.
    """

    name: str
    score: float
    path: str


def find_hits(
    index: ImageIndex,
    composer: Composer,
    device: torch.device,
    queries: Sequence[Query],
    k: int,
    exclude_reference: bool,
) -> list[list[Hit]]:
    """The `k` best images of each query, best first; equal scores are sorted by name.

    Args:
        index: the images, encoded by the same network.
        composer: the network, on the device.
        device: the device of the network.
        queries: at least one.
        k: number of hits of a query; a smaller gallery is returned whole.
        exclude_reference: leave out images with the decoded pixels of the query image.

    Raises:
        InputError: the index contains no image, or features are not finite or do not fit into the GPU's memory.
    """
    vectors = index.require_vectors()
    excluded = [_reference_names(index, query) if exclude_reference else frozenset() for query in queries]
    with torch.inference_mode():
        composed = compose_queries(composer, device, queries)
        scores = [partial(_score, composer, index.target_shape, query) for query in composed]
        best = vectors.best(composed.cpu().numpy(), [k + len(names) for names in excluded], scores)
    return [_hits(index, found, names, k) for found, names in zip(best, excluded, strict=True)]


def _reference_names(index: ImageIndex, query: Query) -> frozenset[str]:
    own = () if query.name is None else (query.name,)
    copies = () if query.digest is None else index.table.with_digest(query.digest)
    return frozenset((*own, *copies))


def compose_queries(composer: Composer, device: torch.device, queries: Sequence[Query]) -> Float[Tensor, "queries dim"]:
    """Composes at least one query; returns unit-norm vectors on the device.

    Raises InputError if features are not finite or do not fit into the GPU's memory.
    """
    composed = []
    with torch.inference_mode():
        for start in range(0, len(queries), BATCH_SIZE):
            batch = queries[start : start + BATCH_SIZE]
            composed.append(compose(composer, _references(composer, device, batch), [query.text for query in batch]))
    return torch.cat(composed)


def _references(composer: Composer, device: torch.device, queries: Sequence[Query]) -> Float[Tensor, "queries ..."]:
    """Reference features on the device: zeros, "no information about the image", for a query without an image."""
    pixels = [query.pixels for query in queries if query.pixels is not None]
    features = encode_pixels(composer, torch.stack(pixels), device) if pixels else encode_black(composer, device)
    missing, given = torch.zeros_like(features.reference[0]), iter(features.reference)
    return torch.stack([missing if query.pixels is None else next(given) for query in queries])


def _score(
    composer: Composer,
    target_shape: tuple[int, ...],
    query: Float[Tensor, " dim"],
    targets: Float32[ndarray, "images tokens dim"],
) -> Float32[ndarray, " images"]:
    """Scores by the network's own rule, one image at a time, so that a score does not depend on the other images."""
    each = torch.from_numpy(targets).reshape(len(targets), 1, *target_shape).to(query.device)
    found = [composer.score(query[None], target)[0] for target in each]
    return torch.cat(found).float().cpu().numpy()


def _hits(index: ImageIndex, best: Best, excluded: Collection[str], k: int) -> list[Hit]:
    ranked = sorted(
        (-score, name)
        for vector, score in zip(best.ids.tolist(), best.scores.tolist(), strict=True)
        for name in index.table.with_vector(vector)
        if name not in excluded
    )
    return [Hit(name, -score, index.table[name].path) for score, name in ranked[:k]]
