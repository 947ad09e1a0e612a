"""Images through a network, each once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
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

    Raises InputError for an image that cannot be decoded, a batch that the GPU cannot hold, or features that are
    not finite: in a ranking they would only show as a bad score.
    """
    batches = image_batches(paths[done:], composer.preprocess, batch_size, workers)
    total = -(-len(paths) // batch_size)
    for images in progress(batches, total, label, "batch", done=done // batch_size):
        with torch.inference_mode(), memory_errors(label, batch_size):
            features = composer.encode_image(images.to(device, non_blocking=True))
        features = ImageFeatures(features.reference.float().cpu(), features.target.float().cpu())
        if not all(torch.isfinite(part).all() for part in features):
            raise InputError(
                f"{label}: the network's features are not finite; its weights are broken: train or download them again"
            )
        yield features


def encode_gallery(
    composer: Composer, gallery: Gallery, batch_size: int, workers: int, device: torch.device, label: str
) -> ImageFeatures:
    """Features of a whole gallery in memory, row by row as its names."""
    parts = list(encode_batches(composer, gallery.paths, batch_size, workers, device, label))
    return ImageFeatures(torch.cat([p.reference for p in parts]), torch.cat([p.target for p in parts]))
