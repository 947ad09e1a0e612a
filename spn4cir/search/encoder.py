"""Embeddings of images and texts, with the interface of Sentence Transformers for mixed inputs.

A **query** is composed of an image and a text. A query without a text is composed with the empty text ("the reference
alone"); a query without an image, with reference features of zeros ("the text alone", as `shortcuts` measures it). A
**document** is an image without a text. `encode` treats an input with a text as a query, and an image alone as a
document. A string that names an existing file is an image; other strings are texts.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from numpy import ndarray
from torch import Tensor

from spn4cir.checkpoints.open import fetch_folder, load_network
from spn4cir.checkpoints.pretrained import require_name
from spn4cir.composers.protocol import Options
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.progress import progress
from spn4cir.search.batch_encoder import BatchEncoder
from spn4cir.search.encode import BATCH_SIZE
from spn4cir.search.inputs import Input, read_items

# Options of Sentence Transformers, and the values of them that change nothing here.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "prompt": (None,),
    "prompt_name": (None,),
    "truncate_dim": (None,),
    "precision": ("float32",),
    "output_value": ("sentence_embedding",),
    "normalize_embeddings": (False, True),
}


class Encoder(BatchEncoder):
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
