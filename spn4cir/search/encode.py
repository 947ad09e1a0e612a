"""Encoding of images and composing of queries in batches, with checks of the features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.search.image_files import ImageDigests, read_images
from spn4cir.search.stored_targets import StoredTargets

BATCH_SIZE = 32


@dataclass
class NewTargets:
    """The targets of crops that an index does not contain yet.

    Attributes:
        crops: the crops.
        shape: shape of an image's targets.
        stored: their targets, in order; None without crops.
    """

    crops: list[bytes] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    stored: StoredTargets | None = None


def encode_pixels(
    composer: Composer, pixels: UInt8[Tensor, "batch 3 size size"], device: torch.device
) -> ImageFeatures:
    """Features on the device. Raises InputError if they are not finite, or do not fit into the GPU's memory."""
    with memory_errors("encode images", BATCH_SIZE):
        features = composer.encode_image(composer.preprocess.normalise(pixels.to(device)))
    check_finite(*features)
    return features


def encode_black(composer: Composer, device: torch.device) -> ImageFeatures:
    """Features of one black image on the device, which show the shapes. Raises InputError as `encode_pixels` does."""
    return encode_pixels(composer, torch.zeros(1, 3, *(composer.preprocess.size,) * 2, dtype=torch.uint8), device)


def compose(
    composer: Composer, reference: Float[Tensor, "batch ..."], texts: Sequence[str]
) -> Float[Tensor, "batch dim"]:
    """Unit-norm queries on the device, in float32. Raises InputError as `encode_pixels` does."""
    with memory_errors("compose queries", BATCH_SIZE):
        queries = composer.compose(reference, texts).float()
    check_finite(queries)
    return queries


def check_finite(*features: Tensor) -> None:
    """Raises InputError for features that are not finite, which would otherwise only show as a bad ranking."""
    if not all(torch.isfinite(part).all() for part in features):
        raise InputError("the network returns numbers that are not finite: its weights are broken or training diverged")


def encode_new(
    composer: Composer,
    paths: Sequence[Path],
    known: Callable[[bytes], bool],
    workers: int,
    device: torch.device,
    skip: bool,
    new_store: Callable[[int, int], StoredTargets],
) -> tuple[list[ImageDigests | InputError], NewTargets]:
    """Reads images, and encodes those whose crop is new.

    Without `skip`, an image that cannot be decoded stops the encoding but not the decoding, so that all broken images
    are found at once.

    Args:
        composer: the network, on the device.
        paths: the files of the images.
        known: whether a crop is encoded already.
        workers: number of processes that decode.
        device: the device of the network.
        skip: whether images that cannot be decoded are left out.
        new_store: makes an empty store from the number of tokens and the dimension of the targets.

    Returns:
        The digests of the images in order, an error for each that cannot be decoded; and the targets of the new crops.
    """
    images: list[ImageDigests | InputError] = []
    new = NewTargets()
    seen: set[bytes] = set()
    failed = False
    for batch in read_images(paths, composer.preprocess, BATCH_SIZE, workers):
        images.extend(batch.images)
        failed = failed or (not skip and any(isinstance(each, InputError) for each in batch.images))
        crops = [each.crop for each in batch.images if isinstance(each, ImageDigests)]
        rows = {crop: row for row, crop in enumerate(crops) if crop not in seen and not known(crop)}
        if rows and not failed:
            with torch.inference_mode():
                features = encode_pixels(composer, batch.pixels[list(rows.values())], device)
            seen.update(rows)
            _append(new, list(rows), features.target.float().cpu(), new_store)
    return images, new


def _append(
    new: NewTargets,
    crops: list[bytes],
    targets: Float[Tensor, "crops ..."],
    new_store: Callable[[int, int], StoredTargets],
) -> None:
    new.shape = tuple(targets.shape[1:])
    tokens, dim = prod(new.shape[:-1]), new.shape[-1]
    if new.stored is None:
        new.stored = new_store(tokens, dim)
    rows = np.arange(len(new.crops), len(new.crops) + len(crops))
    new.stored.append(rows, targets.reshape(len(crops), tokens, dim).numpy())
    new.crops += crops
