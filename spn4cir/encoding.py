"""Images through a network, each once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.images import image_batches
from spn4cir.progress import progress
from spn4cir.types import Gallery


def encode_batches(
    composer: Composer,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    device: torch.device,
    label: str,
    done: int = 0,
) -> Iterator[ImageFeatures]:
    """Features of `paths[done:]` in order, a batch at a time, in float32 on the CPU; one encode an image.

    Raises InputError for an image that cannot be decoded, or a batch that the GPU cannot hold.
    """
    batches = image_batches(paths[done:], composer.preprocess, batch_size, workers)
    total = -(-len(paths) // batch_size)
    for images in progress(batches, total, label, "batch", done=done // batch_size):
        with torch.inference_mode(), memory_errors(label, batch_size):
            features = composer.encode_image(images.to(device, non_blocking=True))
        yield ImageFeatures(features.reference.float().cpu(), features.target.float().cpu())


def encode_gallery(
    composer: Composer, gallery: Gallery, batch_size: int, workers: int, device: torch.device, label: str
) -> ImageFeatures:
    """Features of a whole gallery in memory, row by row as its names."""
    parts = list(encode_batches(composer, gallery.paths, batch_size, workers, device, label))
    return ImageFeatures(torch.cat([p.reference for p in parts]), torch.cat([p.target for p in parts]))
