"""The bank: features of every unique training image, stored in files with a manifest.

Target features are float32 and are read into memory. Reference features are memory-mapped, in float16 or float32
(`dtype`), or not stored at all (`reference: recomputed`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spn4cir.composers.encoding import encode_batches
from spn4cir.composers.feature_files import (
    FeatureFiles,
    RowShapes,
    describe_features,
    differing_keys,
    read_rows,
    size_in_bytes,
)
from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.config.training import BankSettings
from spn4cir.errors import InputError
from spn4cir.images.preprocess import ImageFiles
from spn4cir.images.workers import Workers
from spn4cir.training.reference_rows import RecomputedReferences, References, StoredReferences
from spn4cir.types import UniqueImages

_TARGET_DTYPE = "float32"


@dataclass(frozen=True)
class Bank:
    """Features of every unique training image.

    Attributes:
        reference: source of the reference features of a step.
        target: (images, ...), unit norm, float32 in memory: the loss reads all of it at every step.
        row: row of each image by name, duplicates included.
    """

    reference: References
    target: Float[Tensor, "images ..."]
    row: Mapping[str, int]


def manifest(composer: Composer, unique: UniqueImages, settings: BankSettings) -> dict[str, Any]:
    """Everything a bank depends on: the frozen weights, the preprocessing, the images and their order, the settings."""
    gallery = unique.gallery
    images = describe_features(composer, [list(gallery.names), dict(unique.row)], len(gallery))
    return images | {"dtype": settings.dtype, "reference": settings.reference}


def build_bank(
    composer: Composer,
    unique: UniqueImages,
    settings: BankSettings,
    out: Path,
    work: Path,
    workers: Workers,
    device: torch.device,
) -> None:
    """Encodes every unique image once and writes the bank to the folder `out`.

    The first image is encoded alone. Its features determine the size of the bank, which is printed, and the free disk
    space is checked before the other images are encoded.

    Args:
        composer: stage-1 network; moved to `device`, unless a cluster encodes.
        unique: the images.
        settings: batch size, dtype of the reference rows, and whether they are stored.
        out: folder of the bank; written whole or not at all.
        work: folder of an interrupted build of the same bank, or an empty one; at most one batch is lost.
        workers: processes that decode images, or a cluster.
        device: where the network runs; ignored by a cluster.

    Raises:
        InputError: an image cannot be decoded, or the disk has too little space.
    """
    images, paths, size = len(unique.gallery), unique.gallery.paths, settings.batch_size
    is_stored = settings.reference == "stored"
    keep = torch.full((images,), is_stored)
    files = FeatureFiles(
        name="bank",
        work=work,
        dtypes={"reference": settings.dtype, "target": _TARGET_DTYPE} if is_stored else {"target": _TARGET_DTYPE},
        keep=keep,
        sizes_line=lambda shapes: _sizes_line(images, shapes, settings),
        space_remedy=_remedy(settings),
        range_remedy="in params.yaml set bank.<dataset>.<family>.dtype: float32",
    )

    def encode(done: int) -> Iterator[ImageFeatures]:
        return encode_batches(
            composer, paths, size, workers, device, "encode bank", done, keep, first=None if done else 1
        )

    files.write(encode, lambda: manifest(composer, unique, settings))
    files.publish(out)


def _sizes_line(images: int, shapes: RowShapes, settings: BankSettings) -> str:
    """The size of both parts, as a printed line."""
    reference = size_in_bytes(images, shapes["reference"], settings.dtype)
    target = size_in_bytes(images, shapes["target"], _TARGET_DTYPE)
    where = "on disk" if settings.reference == "stored" else "encoded again in each step: none of it on disk"
    return (
        f"reference rows as {settings.dtype} {reference / 1e6:,.1f} MB, {where}; "
        f"targets as {_TARGET_DTYPE} {target / 1e6:,.1f} MB"
    )


def _remedy(settings: BankSettings) -> str:
    """Advice for a disk with too little space."""
    place = "in params.yaml set bank.<dataset>.<family>"
    ways = ["free some space"]
    if settings.reference == "stored" and settings.dtype != "float16":
        ways.append(f"{place}.dtype: float16 (half the size of the reference rows)")
    if settings.reference == "stored":
        ways.append(f"{place}.reference: recomputed (no reference rows on disk, slower steps)")
    return ", or ".join(ways)


def open_bank(
    folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings, mapped: bool = False
) -> Bank:
    """Opens the bank of a folder and checks that it was built for this network, these images and these settings.

    Args:
        folder: folder of the bank.
        composer: the network.
        unique: the images.
        settings: settings of the bank.
        mapped: maps the file of the targets, whose memory several processes then share, instead of reading it.

    Raises:
        InputError: names the differences (weights, preprocessing, images); or a file is damaged or of another dtype.
    """
    if differing := differing_keys(folder, manifest(composer, unique, settings)):
        raise InputError(
            f"{folder}: the bank was built with other {', '.join(differing)}; build it again from this checkpoint"
        )
    target = read_rows(folder / "target.npy", len(unique.gallery), _TARGET_DTYPE, "build the bank again", mapped)
    return Bank(_references(folder, composer, unique, settings), target, unique.row)


def _references(folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings) -> References:
    if settings.reference == "stored":
        return StoredReferences(folder / "reference.npy", len(unique.gallery))
    return RecomputedReferences(ImageFiles(unique.gallery.paths, composer.preprocess))
