"""Encoding of images and composing of queries in batches, with checks of the features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.images.encode import on_cpu
from spn4cir.images.preprocess import Preprocess
from spn4cir.images.workers import Cluster, ImageBatch, Workers
from spn4cir.progress import progress
from spn4cir.search.image_files import ImageDigests, read_digests, read_image, read_images
from spn4cir.search.read_images import PackedDigests
from spn4cir.search.stored_targets import StoredTargets

BATCH_SIZE = 32


@dataclass
class NewTargets:
    """The targets of crops that an index does not contain yet.

    Attributes:
        count: number of the crops.
        shape: shape of an image's targets.
        stored: their targets, in order; None without crops.
    """

    count: int = 0
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
        raise InputError(
            "the network returns numbers that are not finite: its weights are broken; train or download them again"
        )


def encode_new(
    composer: Composer,
    paths: Sequence[Path],
    known: Callable[[bytes], bool],
    workers: Workers,
    device: torch.device,
    skip: bool,
    new_store: Callable[[int, int], StoredTargets],
) -> tuple[PackedDigests, NewTargets]:
    """Reads images, and encodes those whose crop is new.

    Without `skip`, an image that cannot be decoded stops the encoding but not the decoding, so that all broken images
    are found at once.

    Args:
        composer: the network, on the device.
        paths: the files of the images.
        known: whether a crop is encoded already.
        workers: number of processes that decode, or a cluster, which also encodes.
        device: the device of the network; ignored by a cluster.
        skip: whether images that cannot be decoded are left out.
        new_store: makes an empty store from the number of tokens and the dimension of the targets.

    Returns:
        The digests of the images in order with the rows of their targets, an error for each that cannot be decoded; and
        the targets of the new crops.
    """
    if not isinstance(workers, int):
        if len(paths) > BATCH_SIZE:
            return _encode_there(composer, paths, known, workers, skip, new_store)
        workers = 0
    images, new = PackedDigests(), NewTargets()
    seen: dict[bytes, int] = {}  # the row of each new crop
    failed = False
    for batch in read_images(paths, composer.preprocess, BATCH_SIZE, workers):
        failed = failed or (not skip and any(isinstance(each, InputError) for each in batch.images))
        crops = [each.crop for each in batch.images if isinstance(each, ImageDigests)]
        rows = {crop: row for row, crop in enumerate(crops) if crop not in seen and not known(crop)}
        if rows and not failed:
            with torch.inference_mode():
                features = encode_pixels(composer, batch.pixels[list(rows.values())], device)
            seen.update(zip(rows, count(new.count)))
            _append(new, features.target.float().cpu(), new_store)
        for each in batch.images:
            images.append(each, -1 if isinstance(each, InputError) else seen.get(each.crop, -1))
    return images, new


def _append(
    new: NewTargets,
    targets: Float[Tensor, "crops ..."],
    new_store: Callable[[int, int], StoredTargets],
) -> None:
    new.shape = tuple(targets.shape[1:])
    tokens, dim = prod(new.shape[:-1]), new.shape[-1]
    if new.stored is None:
        new.stored = new_store(tokens, dim)
    rows = np.arange(new.count, new.count + len(targets))
    new.stored.append(rows, targets.reshape(len(targets), tokens, dim).numpy())
    new.count += len(targets)


def _encode_there(
    composer: Composer,
    paths: Sequence[Path],
    known: Callable[[bytes], bool],
    cluster: Cluster,
    skip: bool,
    new_store: Callable[[int, int], StoredTargets],
) -> tuple[PackedDigests, NewTargets]:
    """Reads and encodes images on a cluster, in the batches of `encode_new`.

    The images are decoded twice, because the content of a batch depends on the crops of the images before it.
    """
    images, new = PackedDigests(), NewTargets()
    seen: dict[bytes, int] = {}  # the row of each new crop
    batches: list[ImageBatch] = []
    read = cluster.map_files(partial(read_digests, preprocess=composer.preprocess), paths, "index")
    found = enumerate(progress(read, len(paths), "index: read", "images"))
    while part := list(islice(found, BATCH_SIZE)):
        places = {each.crop: place for place, each in part if isinstance(each, ImageDigests)}
        places = {crop: place for crop, place in places.items() if crop not in seen and not known(crop)}
        if places:
            seen.update(zip(places, count(len(seen))))
            batches.append(ImageBatch(tuple(paths[place] for place in places.values())))
        for _, each in part:
            images.append(each, -1 if isinstance(each, InputError) else seen.get(each.crop, -1))
    if images.errors and not skip:
        return images, new
    load = partial(_target_encoder, on_cpu(composer))
    encoded = cluster.map_batches(partial(_read_pixels, composer.preprocess), load, batches, "index")
    for targets in progress(encoded, len(batches), "index", "batch"):
        _append(new, targets, new_store)
    return images, new


def _read_pixels(preprocess: Preprocess, batch: ImageBatch) -> UInt8[Tensor, "batch 3 size size"]:
    return torch.stack([read_image(path, preprocess).pixels for path in batch.paths])


def _target_encoder(
    composer: Composer, device: torch.device
) -> Callable[[UInt8[Tensor, "batch 3 size size"]], Float[Tensor, "batch ..."]]:
    """Returns the function that encodes cropped images, on a worker of a cluster."""
    network = composer.to(device)

    def targets(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return encode_pixels(network, pixels, device).target.float().cpu()

    return targets
