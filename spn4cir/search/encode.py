"""Targets of pictures that an index does not have yet."""

from collections.abc import Container, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.search.pictures import ImageFile, read_pictures

BATCH_SIZE = 32


def encode_pixels(
    composer: Composer, pixels: UInt8[Tensor, "batch 3 size size"], device: torch.device
) -> ImageFeatures:
    """Features on the device. Raises InputError where they are not finite, or do not fit into the GPU's memory."""
    with memory_errors("encode pictures", BATCH_SIZE):
        features = composer.encode_image(composer.preprocess.normalise(pixels.to(device)))
    check_finite(*features)
    return features


def compose(
    composer: Composer, reference: Float[Tensor, "batch ..."], texts: Sequence[str]
) -> Float[Tensor, "batch dim"]:
    """Unit-norm queries on the device, in float32. Raises InputError as `encode_pixels`."""
    with memory_errors("compose queries", BATCH_SIZE):
        queries = composer.compose(reference, texts).float()
    check_finite(queries)
    return queries


def check_finite(*features: Tensor) -> None:
    """Raises InputError for figures that are not finite: in a ranking they would only show as a bad one."""
    if not all(torch.isfinite(part).all() for part in features):
        raise InputError("the network gives figures that are not finite: its weights are broken or training diverged")


def encode_new(
    composer: Composer,
    paths: Sequence[Path],
    known: Container[bytes],
    workers: int,
    device: torch.device,
    skip: bool,
) -> tuple[list[ImageFile | InputError], dict[bytes, Float[Tensor, "..."]]]:
    """Reads pictures, and encodes those that the network sees another crop of than of any before.

    Where pictures cannot be decoded and are not to be skipped, the others are decoded all the same, so that every
    fault is found at once, but not encoded.

    Args:
        composer: the network, on the device.
        paths: the pictures.
        known: crops whose targets are there.
        workers: processes that decode.
        device: where the network runs.
        skip: whether pictures that cannot be decoded are left out.

    Returns:
        The pictures in order, errors in the place of those that cannot be decoded; and the targets of new crops.
    """
    pictures: list[ImageFile | InputError] = []
    targets: dict[bytes, Tensor] = {}
    in_vain = False
    for batch in read_pictures(paths, composer.preprocess, BATCH_SIZE, workers):
        pictures.extend(batch.pictures)
        in_vain = in_vain or (not skip and any(isinstance(each, InputError) for each in batch.pictures))
        crops = [each.crop for each in batch.pictures if isinstance(each, ImageFile)]
        rows = {crop: row for row, crop in enumerate(crops) if crop not in known and crop not in targets}
        if rows and not in_vain:
            with torch.inference_mode():
                features = encode_pixels(composer, batch.pixels[list(rows.values())], device)
            targets.update(zip(rows, features.target.float().cpu(), strict=True))
    return pictures, targets
