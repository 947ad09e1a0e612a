"""Encoding of images and composing of queries in batches, with checks of the features."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.images.encode import on_cpu
from spn4cir.images.preprocess import Preprocess
from spn4cir.images.workers import Cluster, ImageBatch, Workers
from spn4cir.packed import PackedPaths
from spn4cir.progress import progress
from spn4cir.search.image_files import ImageDigests, read_digests, read_image, read_images
from spn4cir.search.read_images import PackedDigests
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.unfinished import KeptImages, unread_batches

BATCH_SIZE = 32
# Makes an empty store from the number of tokens and the dimension of targets.
NewStore = Callable[[int, int], StoredTargets]


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
    new_store: NewStore,
    kept: KeptImages | None = None,
) -> tuple[PackedDigests, NewTargets]:
    """Reads images, and encodes those whose crop is new.

    Without `skip`, an image that cannot be decoded stops the encoding but not the decoding, so that all broken images
    are found at once. With `kept`, it does not stop the encoding either: nothing that is encoded is lost.

    Args:
        composer: the network, on the device.
        paths: the files of the images.
        known: whether a crop is encoded already.
        workers: number of processes that decode, or a cluster, which also encodes.
        device: the device of the network; ignored by a cluster.
        skip: whether images that cannot be decoded are left out.
        new_store: makes an empty store from the number of tokens and the dimension of the targets.
        kept: what an earlier run kept of the images, to which this one adds; None: nothing is kept.

    Returns:
        The digests of the images in order with the rows of their targets, an error for each that cannot be decoded; and
        the targets of the new crops.

    Raises:
        InputError: the features are not finite or do not fit into the memory, or the disk is full.
    """
    if not isinstance(workers, int):
        if len(paths) > BATCH_SIZE:
            return _encode_there(composer, paths, known, workers, skip, new_store, kept)
        workers = 0
    images, new = PackedDigests(len(paths)), NewTargets()
    unread, seen = _restore(images, new, known, new_store, kept, digests_alone=False)
    batches = unread_batches(unread, BATCH_SIZE)
    done = max(0, -(-len(paths) // BATCH_SIZE) - len(batches))
    failed = False
    read = read_images(paths, composer.preprocess, batches, workers, done)
    for places, batch in zip(batches, read, strict=True):
        failed = failed or (kept is None and not skip and any(isinstance(each, InputError) for each in batch.images))
        crops = [each.crop for each in batch.images if isinstance(each, ImageDigests)]
        rows = {crop: row for row, crop in enumerate(crops) if crop not in seen and not known(crop)}
        targets = None
        if rows and not failed:
            with torch.inference_mode():
                features = encode_pixels(composer, batch.pixels[list(rows.values())], device)
            seen.update(zip(rows, count(new.count)))
            targets = _append(new, features.target.float().cpu().numpy(), new_store)
        if kept is not None:
            kept.keep(_decoded(zip(places, batch.images, strict=True)), list(rows), targets)
        for place, each in zip(places, batch.images, strict=True):
            images.put(place, each, -1 if isinstance(each, InputError) else seen.get(each.crop, -1))
    images.errors = dict(sorted(images.errors.items()))
    return images, new


def _restore(
    images: PackedDigests,
    new: NewTargets,
    known: Callable[[bytes], bool],
    new_store: NewStore,
    kept: KeptImages | None,
    digests_alone: bool,
) -> tuple[Bool[ndarray, " images"], dict[bytes, int]]:
    """Takes over what an earlier run kept.

    Returns which images have to be read, and the row of each crop whose targets are kept.
    """
    if kept is None:
        return np.ones(len(images), bool), {}
    found = kept.restore(images, known, digests_alone)
    if digests_alone and (done := len(images) - int(found.unread.sum())):
        print(f"index: read: resumed after {done:,} of {len(images):,} images", flush=True)
    if found.encoded:
        print(f"index: resumed after {found.encoded:,} of {len(images):,} images", flush=True)
    for targets in found.targets:
        _append(new, targets, new_store)
    return found.unread, found.rows


def _decoded(found: Iterable[tuple[int, ImageDigests | InputError]]) -> list[tuple[int, ImageDigests]]:
    return [(place, each) for place, each in found if isinstance(each, ImageDigests)]


def _append(new: NewTargets, targets: Float[ndarray, "crops ..."], new_store: NewStore) -> Float[ndarray, "crops ..."]:
    """Adds the targets of new crops, and returns them in the precision of the store."""
    new.shape = tuple(targets.shape[1:])
    tokens, dim = prod(new.shape[:-1]), new.shape[-1]
    if new.stored is None:
        new.stored = new_store(tokens, dim)
    targets = np.ascontiguousarray(targets, new.stored.dtype)
    rows = np.arange(new.count, new.count + len(targets))
    new.stored.append(rows, targets.reshape(len(targets), tokens, dim))
    new.count += len(targets)
    return targets


def _encode_there(
    composer: Composer,
    paths: Sequence[Path],
    known: Callable[[bytes], bool],
    cluster: Cluster,
    skip: bool,
    new_store: NewStore,
    kept: KeptImages | None,
) -> tuple[PackedDigests, NewTargets]:
    """Reads and encodes images on a cluster, in the batches of `encode_new`.

    The images are decoded twice, because the content of a batch depends on the crops of the images before it. What is
    kept are first the digests, and then the targets.
    """
    images, new = PackedDigests(len(paths)), NewTargets()
    unread, seen = _restore(images, new, known, new_store, kept, digests_alone=True)
    places = array("q", np.flatnonzero(unread).tobytes())
    files = paths if len(places) == len(paths) else PackedPaths(paths[place] for place in places)
    read = cluster.map_files(partial(read_digests, preprocess=composer.preprocess), files, "index")
    done = len(paths) - len(places)
    found = zip(places, progress(read, len(paths), "index: read", "images", done), strict=True)
    while part := list(islice(found, BATCH_SIZE)):
        for place, each in part:
            images.put(place, each)
        if kept is not None:
            kept.keep(_decoded(part))
    if images.errors and not skip:
        return images, new
    before = new.count
    batches = _new_batches(images, seen, known)
    load = partial(_target_encoder, on_cpu(composer))
    inputs = [ImageBatch(tuple(paths[place] for place in batch)) for batch in batches]
    encoded = cluster.map_batches(partial(_read_pixels, composer.preprocess), load, inputs, "index")
    done = -(-before // BATCH_SIZE)
    for batch, found_targets in zip(
        batches, progress(encoded, done + len(batches), "index", "batch", done), strict=True
    ):
        targets = _append(new, found_targets.numpy(), new_store)
        if kept is not None:
            kept.keep([], [images.digests(place).crop for place in batch], targets)
    return images, new


def _new_batches(images: PackedDigests, seen: dict[bytes, int], known: Callable[[bytes], bool]) -> list[list[int]]:
    """Cuts the images whose crop is new into batches, and sets the rows of all images.

    Args:
        images: the digests.
        seen: the row of each crop whose targets are kept; the new crops are added.
        known: whether a crop is in the index already.
    """
    batches: list[list[int]] = []
    for first in range(0, len(images), BATCH_SIZE):
        part = [place for place in range(first, min(first + BATCH_SIZE, len(images))) if place not in images.errors]
        crops = {images.digests(place).crop: place for place in part}
        crops = {crop: place for crop, place in crops.items() if crop not in seen and not known(crop)}
        if crops:
            seen.update(zip(crops, count(len(seen))))
            batches.append(list(crops.values()))
        for place in part:
            images.rows[place] = seen.get(images.digests(place).crop, -1)
    return batches


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
