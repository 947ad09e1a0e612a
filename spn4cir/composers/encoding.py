"""Encoding of images with a network, and checks of its tensors and texts."""

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.errors import InputError
from spn4cir.files import claim_space, disk_errors, require_space
from spn4cir.images.encode import encoded_batches
from spn4cir.images.preprocess import batch_rows
from spn4cir.images.workers import Workers
from spn4cir.progress import progress, say_once
from spn4cir.types import Gallery

# Maximum bytes of reference features in memory; larger ones are stored in a temporary file.
_IN_MEMORY = 2 << 30


@dataclass(frozen=True)
class EncodedGallery:
    """Target features of every image of a gallery, and reference features of some of them.

    Attributes:
        gallery: the images.
        target: target features, one row per name of the gallery.
        reference: reference features, one row per entry of `kept`.
        kept: rows of the gallery whose reference features are kept, sorted.
    """

    gallery: Gallery
    target: Float[Tensor, "names ..."]
    reference: Float[Tensor, "kept ..."]
    kept: Int[Tensor, " kept"]

    def rows(self, names: Sequence[str]) -> Int[Tensor, " names"]:
        """Returns the row of each name in the target features."""
        return torch.tensor([self.gallery.index[name] for name in names], dtype=torch.long)

    def targets(self, names: Sequence[str]) -> Float[Tensor, "names ..."]:
        """Returns the target features of names: a copy, unless the names are the whole gallery in its order."""
        return self.target if tuple(names) == self.gallery.names else self.target[self.rows(names)]

    def references(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows ..."]:
        """Returns the reference features of rows of the gallery, all of which must be in `kept`."""
        found = torch.searchsorted(self.kept, rows)
        assert torch.equal(self.kept[found], rows)
        return self.reference[found]


def encode_batches(
    composer: Composer,
    paths: Sequence[Path],
    batch_size: int,
    workers: Workers,
    device: torch.device,
    label: str,
    done: int = 0,
    keep: Bool[Tensor, " paths"] | None = None,
    first: int | None = None,
) -> Iterator[ImageFeatures]:
    """Yields the features of `paths[done:]` in order, one batch at a time, in float32 on the CPU.

    Args:
        composer: the network; moved to `device`, unless a cluster encodes.
        paths: the images.
        batch_size: images per batch.
        workers: processes that decode images, where 0 decodes in this one; or a cluster.
        device: device of the network; ignored by a cluster.
        label: name of the work, for progress and messages.
        done: number of images that an earlier run encoded.
        keep: the images whose reference features are returned; None returns all. Target features are always returned.
        first: number of images in the first batch; None: `batch_size`.

    Raises:
        InputError: an image cannot be decoded, a batch does not fit into the GPU's memory, or features are not finite,
            which would otherwise appear only as a low score.
    """
    encode = partial(_features, keep=None if keep is None else keep[done:])
    batches = encoded_batches(composer, encode, paths[done:], batch_size, workers, device, label, first)
    before = done // batch_size
    total = before + len(batch_rows(len(paths) - done, batch_size, first))
    for features in progress(batches, total, label, "batch", before):
        if not all(torch.isfinite(part).all() for part in features):
            raise InputError(
                f"{label}: the network's features are not finite; its weights are broken: train or download them again"
            )
        yield features


def _features(
    composer: Composer, images: Float[Tensor, "batch 3 size size"], row: int, keep: Bool[Tensor, " paths"] | None
) -> ImageFeatures:
    """Returns the features of a batch in float32 on the CPU, and reference features only of images to keep."""
    found = composer.encode_image(images)
    wanted = slice(None) if keep is None else keep[row : row + len(images)].nonzero()[:, 0].to(images.device)
    return ImageFeatures(*(_owned(part.float().cpu()) for part in (found.reference[wanted], found.target)))


def _owned(tensor: Tensor) -> Tensor:
    """Returns the tensor, copied if it is a part of a larger one, which would be kept and sent as a whole."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def encode_gallery(
    composer: Composer,
    gallery: Gallery,
    references: Collection[int],
    batch_size: int,
    workers: Workers,
    device: torch.device,
    label: str,
) -> EncodedGallery:
    """Encodes every image of a gallery once.

    Args:
        composer: the network; moved to `device`, unless a cluster encodes.
        gallery: the images.
        references: rows of the images whose reference features are kept. Above 2 GB they are stored in a temporary
            file, which is deleted with the tensor.
        batch_size: images per batch.
        workers: processes that decode images, where 0 decodes in this one; or a cluster.
        device: device of the network; ignored by a cluster.
        label: name of the work, for progress and messages.

    Raises:
        InputError: `encode_batches` raises it, or the disk has no room for the temporary file.
    """
    keep = reference_mask(gallery, references)
    kept = keep.nonzero()[:, 0]
    target, reference = torch.empty(0), torch.empty(0)
    row = position = 0
    for features in encode_batches(composer, gallery.paths, batch_size, workers, device, label, keep=keep):
        if row == 0:
            target = torch.empty(len(gallery), *features.target.shape[1:])
            reference = _room((len(kept), *features.reference.shape[1:]))
        target[row : row + len(features.target)] = features.target
        reference[position : position + len(features.reference)] = features.reference
        row, position = row + len(features.target), position + len(features.reference)
    return EncodedGallery(gallery, target, reference, kept)


def reference_mask(gallery: Gallery, references: Collection[int]) -> Bool[Tensor, " images"]:
    """Returns which images of a gallery are references, from their rows."""
    mask = torch.zeros(len(gallery), dtype=torch.bool)
    mask[list(references)] = True
    return mask


def _room(shape: tuple[int, ...]) -> Tensor:
    """Returns an empty float32 tensor: in memory, or if large in an unnamed temporary file that is deleted with it."""
    size = prod(shape) * np.dtype(np.float32).itemsize
    if size <= _IN_MEMORY:
        return torch.empty(shape)
    folder = Path(tempfile.gettempdir())
    with disk_errors(folder):
        require_space(folder, size, "free some room, or set TMPDIR to a folder on another disk")
        with tempfile.TemporaryFile(dir=folder) as stream:
            claim_space(stream.fileno(), size)
            return torch.from_numpy(np.memmap(stream, dtype=np.float32, mode="w+", shape=shape))


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Returns the sha256 of names, shapes and float32 values, in hex."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def report_long_texts(composer: Composer, texts: Iterable[str], place: str) -> None:
    """Reports on stderr how many texts have more tokens than the network reads; the network truncates these.

    Each distinct text is counted once. A line that was printed before, for example in an earlier epoch, is not
    repeated.

    Args:
        composer: the network.
        texts: texts in the form that the network receives.
        place: name of the texts for the message, such as `split 'dress'`.
    """
    distinct = set(texts)
    # A text has at most as many tokens as its words have separately, and there are few distinct words. Only texts that
    # may be too long by this bound are counted exactly.
    marks = composer.count_tokens("")
    words = {word for text in distinct for word in text.split()}
    word_tokens = {word: composer.count_tokens(word) - marks for word in words}
    long = [text for text in distinct if marks + sum(word_tokens[word] for word in text.split()) > composer.max_tokens]
    beyond = [count for count in map(composer.count_tokens, long) if count > composer.max_tokens]
    if beyond:
        say_once(
            f"warning: {place}: {len(beyond):,} of {len(distinct):,} texts have more than {composer.max_tokens} tokens "
            f"(the longest {max(beyond)}); family '{composer.family}' truncates them"
        )
