"""Training steps that encode a batch in chunks, in the memory of one chunk and with the gradients of the whole batch.

The features of all chunks are computed without the activations that gradients need, and the loss is that of the whole
batch. Its backward pass encodes each chunk again, with these activations, and passes the gradient of the chunk's
features on to the weights. Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup" (GradCache), RepL4NLP 2021, arXiv 2101.06983.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.config.training import Optimisation

Features = TypeVar("Features")


def chunked(composer: Composer, chunk: int | None) -> Composer:
    """Returns a view of the network that encodes images and composes queries in chunks; None: the network itself.

    Args:
        composer: the network.
        chunk: images, and queries, that are computed at once. The last chunk may be smaller.
    """
    return composer if chunk is None else cast(Composer, _ChunkedComposer(composer, chunk))


def memory_remedy(settings: Optimisation) -> str:
    """What to do if a training step does not fit into the memory of a GPU."""
    if settings.chunk is None:
        return f"set chunk to a part of batch_size ({settings.batch_size})"
    return f"lower chunk ({settings.chunk})" if settings.chunk > 1 else f"lower batch_size ({settings.batch_size})"


class _ChunkedComposer:
    """A network that computes in chunks; shares weights, mode and all else with the original.

    Dropout draws the same numbers in both passes over a chunk. The random state after the backward pass is that before
    it.
    """

    def __init__(self, composer: Composer, chunk: int) -> None:
        self._composer = composer
        self._chunk = chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._composer, name)

    def encode_image(self, images: Float[Tensor, "batch 3 size size"]) -> ImageFeatures:
        """Returns the reference and target features of images."""
        chunks = images.split(self._chunk)  # type: ignore[no-untyped-call]
        parts = [_computed_twice(self._composer.encode_image, each) for each in chunks]
        return ImageFeatures(*(torch.cat(kind) for kind in zip(*parts, strict=True)))

    def compose(self, reference: Tensor, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries for reference features and modification texts."""
        rows = reference.split(self._chunk)  # type: ignore[no-untyped-call]
        starts = range(0, len(texts), self._chunk)
        parts = [
            _computed_twice(self._composer.compose, own, texts[start : start + self._chunk])
            for own, start in zip(rows, starts, strict=True)
        ]
        return torch.cat(parts)


def _computed_twice(function: Callable[..., Features], *arguments: Any) -> Features:
    """Returns the function's value, whose backward pass computes the function again; once if there are no gradients."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    value: Features = checkpoint(function, *arguments, use_reentrant=False)
    return value
