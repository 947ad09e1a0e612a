"""Embeddings of images and texts, with the interface of Sentence Transformers for mixed inputs.

A **query** is composed of an image and a text. A query without a text is composed with the empty text ("the reference
alone"); a query without an image, with reference features of zeros ("the text alone", as `shortcuts` measures it). A
**document** is an image without a text. `encode` treats an input with a text as a query, and an image alone as a
document. A string that names an existing file is an image; other strings are texts.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from spn4cir.checkpoints.open import fetch_folder, load_network
from spn4cir.checkpoints.pretrained import require_name
from spn4cir.composers.compositions import require_parts
from spn4cir.composers.protocol import Composer, Options
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.progress import progress
from spn4cir.search.encode import BATCH_SIZE, compose, encode_black, encode_pixels
from spn4cir.search.image_files import read_image
from spn4cir.search.inputs import ImageInput, Input, Item, read_items

# Options of Sentence Transformers, and the values of them that change nothing here.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "prompt": (None,),
    "prompt_name": (None,),
    "truncate_dim": (None,),
    "precision": ("float32",),
    "output_value": ("sentence_embedding",),
    "normalize_embeddings": (False, True),
}
Embeddings = Tensor | ndarray | Sequence[Tensor] | Sequence[ndarray]


class Encoder:
    """Encodes queries and documents as unit-norm embeddings, and scores them with the network's own rule.

    A query is a vector (dim,). A document is a vector too, or several (BLIP-2: 32), of which `similarity` takes the
    best.

    Args:
        composer: the network, on the device.
        device: the device of the network.

    Examples:
        >>> encoder = Encoder.from_checkpoint(checkpoint)
        >>> queries = encoder.encode_query([{"image": "coat.png", "text": "is red"}, "a red coat"])
        >>> documents = encoder.encode_document([Path("coat.png"), Path("dress.png"), Path("in/shirt.png")])
        >>> encoder.similarity(queries, documents).shape
        torch.Size([2, 3])
    """

    def __init__(self, composer: Composer, device: torch.device) -> None:
        self.composer = composer
        self.device = device

    def __repr__(self) -> str:
        return f"{type(self).__name__}(family={self.composer.family!r}, device={str(self.device)!r})"

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        family: str | None = None,
        tokenizer: str | None = None,
        *,
        vision_head_width: int | None = None,
        text_head_width: int | None = None,
        composition: str | None = None,
        device: str = "auto",
    ) -> Self:
        """Opens a network; arguments and errors are those of `Retriever.from_checkpoint`."""
        place = choose_device(device)
        options = Options(tokenizer, vision_head_width=vision_head_width, text_head_width=text_head_width)
        return cls(load_network(Path(path), family, options, place, composition), place)

    @classmethod
    def from_pretrained(cls, name: str, *, composition: str | None = None, device: str = "auto") -> Self:
        """Opens a pretrained network by name; arguments and errors are those of `Retriever.from_pretrained`."""
        require_name(name)
        return cls.from_checkpoint(name, composition=composition, device=device)

    @classmethod
    def from_hub(cls, repository: str, revision: str = "main", *, device: str = "auto") -> Self:
        """Opens a hub folder that was uploaded; arguments and errors are those of `Retriever.from_hub`."""
        return cls.from_checkpoint(fetch_folder(repository, revision), device=device)

    def encode(self, inputs: Sequence[Input] | Input, **options: Any) -> Tensor | ndarray:
        """Encodes inputs with a text as queries, and images alone as documents.

        Args:
            inputs: one input or several.
            options: the options of `encode_query`.

        Returns:
            The embeddings, as `encode_query` and `encode_document` return them.

        Raises:
            InputError: as `encode_query` does, and if queries and documents are mixed whose shapes differ.
        """
        return self._encode(inputs, None, **options)

    def encode_query(self, inputs: Sequence[Input] | Input, **options: Any) -> Tensor | ndarray:
        """Encodes queries: an image with a text, or one of them.

        Args:
            inputs: one input or several.
            options: `batch_size` (32), `show_progress_bar`, `convert_to_tensor` (a tensor on the CPU instead of an
                array). Prompts, other precisions and truncated embeddings raise an error: the network has none.

        Returns:
            Unit-norm embeddings (inputs, dim); (dim,) for a single input.

        Raises:
            InputError: an input has another form, or an image cannot be decoded.
        """
        return self._encode(inputs, True, **options)

    def encode_document(self, inputs: Sequence[Input] | Input, **options: Any) -> Tensor | ndarray:
        """Encodes documents: images without a text.

        Args:
            inputs: one input or several.
            options: further options; see `encode_query`.

        Returns:
            Unit-norm embeddings (inputs, dim), BLIP-2 (inputs, 32, dim); without the first axis for a single input.

        Raises:
            InputError: as `encode_query` does, and for a document with a text.
        """
        return self._encode(inputs, False, **options)

    def _encode(
        self,
        inputs: Sequence[Input] | Input,
        queries: bool | None,
        *,
        batch_size: int = BATCH_SIZE,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **others: Any,
    ) -> Tensor | ndarray:
        for name, value in others.items():
            if value not in _WITHOUT_EFFECT.get(name, ()):
                raise InputError(f"option '{name}' = {value!r}: this network does not support it; leave it out")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; give at least 1")
        items, single = read_items(inputs)
        starts: Sequence[int] = range(0, len(items), batch_size)
        shown = progress(starts, len(starts), "encode", "batch") if show_progress_bar else starts
        rows = [row for start in shown for row in self.embed(items[start : start + batch_size], queries)]
        if len({row.shape for row in rows}) > 1:
            raise InputError("queries and documents of this network differ in shape; encode them in two calls")
        found = self.stack(rows, queries)
        found = found[0] if single else found
        return found if convert_to_tensor or not convert_to_numpy else found.numpy()

    def stack(self, rows: Sequence[Tensor], queries: bool | None) -> Tensor:
        """Stacks embeddings of `embed`. Without rows, the result has the shape (0, dim), or for documents (0, ...)."""
        if rows:
            return torch.stack(list(rows))
        return torch.empty(0, *(self._black[1].shape if queries is False else (self.dim,)))

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
            raise InputError(f"a document is an image without a text, got {'a text' if wrong[0].text else 'no image'}")
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

    @property
    def dim(self) -> int:
        """Dimension of an embedding."""
        return int(self._black[1].shape[-1])

    @property
    def tokens(self) -> int:
        """Number of vectors of a document."""
        return int(self._black[1].shape[:-1].numel())

    def get_embedding_dimension(self) -> int:
        """Returns `dim`; the name of Sentence Transformers."""
        return self.dim

    def get_sentence_embedding_dimension(self) -> int:
        """Returns `dim`; the older name of Sentence Transformers."""
        return self.dim

    @property
    def max_seq_length(self) -> int:
        """The number of tokens that the network reads of a text; longer texts are cut."""
        return self.composer.max_tokens

    @property
    def similarity_fn_name(self) -> Literal["dot", "MaxSim"]:
        """The rule of `similarity`. Embeddings have unit norm, so `dot` is the cosine."""
        return "dot" if self.tokens == 1 else "MaxSim"

    @property
    def modalities(self) -> list[str | tuple[str, ...]]:
        """The modalities that an input may contain."""
        return ["text", "image", ("image", "text")]


def _is_document(item: Item) -> bool:
    return item.image is not None and item.text is None


def _tensor(embeddings: Embeddings) -> Tensor:
    if isinstance(embeddings, Tensor):
        return embeddings.float()
    if isinstance(embeddings, ndarray):
        return torch.from_numpy(embeddings).float()
    return torch.from_numpy(np.stack([np.asarray(each) for each in embeddings])).float()
