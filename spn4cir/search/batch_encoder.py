"""Embeddings of a batch of queries and documents, and their scores by the network's own rule."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from spn4cir.composers.compositions import require_parts
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.search.encode import compose, encode_black, encode_pixels
from spn4cir.search.image_files import read_image
from spn4cir.search.inputs import ImageInput, Item

Embeddings = Tensor | ndarray | Sequence[Tensor] | Sequence[ndarray]


class BatchEncoder:
    """Encodes batches of inputs that are split into image and text: the part of `Encoder` that calls the network.

    Args:
        composer: the network, on the device.
        device: the device of the network.
    """

    def __init__(self, composer: Composer, device: torch.device) -> None:
        self.composer = composer
        self.device = device

    def embed(self, items: Sequence[Item], queries: bool | None) -> list[Tensor]:
        """Encodes one batch, with one pass of each image through the network.

        Args:
            items: the batch.
            queries: whether the items are queries or documents; None: those with a text are queries.

        Returns:
            The embeddings in order, on the CPU.

        Raises:
            InputError: a document has a text or no image, a query lacks the only part that the composition reads, or an
                image cannot be decoded.
        """
        asked = [item.text is not None if queries is None else queries for item in items]
        if wrong := [item for item, query in zip(items, asked, strict=True) if not query and not _is_document(item)]:
            got = "a text" if wrong[0].text else "no image"
            raise InputError(f"a document: expected an image without a text, got {got}")
        with torch.inference_mode():
            images = [position for position, item in enumerate(items) if item.image is not None]
            references, targets = self._features([items[position].image for position in images])
            rows: dict[int, Tensor] = dict(zip(images, targets, strict=True))
            composed = [position for position, query in enumerate(asked) if query]
            for position in composed:
                require_parts(self.composer, items[position].image is not None, items[position].text is not None)
            if composed:
                known = dict(zip(images, references, strict=True))
                reference = torch.stack([known.get(position, self._no_reference) for position in composed])
                found = compose(self.composer, reference, [items[position].text or "" for position in composed])
                rows.update(zip(composed, found.cpu(), strict=True))
        return [rows[position] for position in range(len(items))]

    def stack(self, rows: Sequence[Tensor], queries: bool | None) -> Tensor:
        """Stacks embeddings of `embed`. Without rows, the result has the shape (0, dim), or for documents (0, ...)."""
        if rows:
            return torch.stack(list(rows))
        return torch.empty(0, *(self._black[1].shape if queries is False else (self.dim,)))

    def similarity(self, queries: Embeddings, documents: Embeddings) -> Float[Tensor, "queries documents"]:
        """Scores all queries with all documents: the dot product, of the best token if a document has several.

        Args:
            queries: (queries, dim) or (dim,).
            documents: (documents, dim), BLIP-2 (documents, 32, dim); or one without the first axis.

        Raises:
            InputError: the shapes are not those of this network.
        """
        first, second = self._fitting(queries, documents)
        if not len(first) or not len(second):
            return torch.empty(len(first), len(second))
        with torch.inference_mode():
            return self.composer.score(first.to(self.device), second.to(self.device)).float().cpu()

    def similarity_pairwise(self, queries: Embeddings, documents: Embeddings) -> Float[Tensor, " pairs"]:
        """Scores each query with the document of the same position. Raises InputError as `similarity` does."""
        first, second = self._fitting(queries, documents)
        if len(first) != len(second):
            raise InputError(f"{len(first)} queries and {len(second)} documents make no pairs; give as many of each")
        pairs = (self.similarity(query, document) for query, document in zip(first, second, strict=True))
        return torch.cat([torch.empty(0), *(score[0] for score in pairs)])

    @property
    def dim(self) -> int:
        """Dimension of an embedding."""
        return int(self._black[1].shape[-1])

    @property
    def tokens(self) -> int:
        """Number of vectors of a document."""
        return int(self._black[1].shape[:-1].numel())

    def _features(self, images: Sequence[ImageInput | None]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Features of the images that are not None: references on the device, targets on the CPU."""
        given = [Path(each) if isinstance(each, (str, os.PathLike)) else each for each in images if each is not None]
        if not given:
            return (), ()
        pixels = torch.stack([read_image(each, self.composer.preprocess).pixels for each in given])
        features = encode_pixels(self.composer, pixels, self.device)
        return tuple(features.reference), tuple(features.target.float().cpu())

    @cached_property
    def _no_reference(self) -> Tensor:
        """Reference features of zeros, for a query without an image."""
        return torch.zeros_like(self._black[0])

    @cached_property
    def _black(self) -> tuple[Tensor, Tensor]:
        """Reference and target features of a black image, which give the shapes."""
        with torch.inference_mode():
            features = encode_black(self.composer, self.device)
        return features.reference[0], features.target[0].float().cpu()

    def _fitting(self, queries: Embeddings, documents: Embeddings) -> tuple[Tensor, Tensor]:
        first, second = _tensor(queries), _tensor(documents)
        target = tuple(self._black[1].shape)
        first = first[None] if first.ndim == 1 else first
        second = second[None] if second.ndim == len(target) else second
        if first.shape[1:] != (self.dim,) or tuple(second.shape[1:]) != target:
            raise InputError(
                f"embeddings of shapes {tuple(first.shape)} and {tuple(second.shape)}: expected queries of shape "
                f"(n, {self.dim}) first, then documents of shape (n, {', '.join(map(str, target))})"
            )
        return first, second


def _is_document(item: Item) -> bool:
    return item.image is not None and item.text is None


def _tensor(embeddings: Embeddings) -> Tensor:
    if isinstance(embeddings, Tensor):
        return embeddings.float()
    if isinstance(embeddings, ndarray):
        return torch.from_numpy(embeddings).float()
    return torch.from_numpy(np.stack([np.asarray(each) for each in embeddings])).float()
