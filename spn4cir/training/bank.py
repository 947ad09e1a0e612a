"""The bank: features of every unique training image, stored in files with a manifest.

Target features are float32 and are read into memory. Reference features are memory-mapped, in float16 or float32
(`dtype`), or not stored at all (`reference: recomputed`).
"""

import os
import shutil
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spn4cir.composers.encoding import encode_batches, tensors_hash
from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.config.training import BankSettings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, claim_space, disk_errors, read_json, require_space, value_hash, write_json
from spn4cir.images.preprocess import ImageFiles
from spn4cir.training.reference_rows import RecomputedReferences, References, StoredReferences
from spn4cir.types import UniqueImages

_MANIFEST = "manifest.json"
# In the work folder: the number of rows written with the shapes of both parts, and the folder that becomes the bank.
_DONE = "done.json"
_FILES = "bank"
# The stored parts, by the setting `reference`.
_PARTS = {"stored": ("reference", "target"), "recomputed": ("target",)}

_TARGET_DTYPE = "float32"

Maps = dict[str, np.memmap[Any, Any]]
Shapes = dict[str, list[int]]


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
    row: dict[str, int]


def manifest(composer: Composer, unique: UniqueImages, settings: BankSettings) -> dict[str, Any]:
    """Everything a bank depends on: the frozen weights, the preprocessing, the images and their order, the settings."""
    return {
        "family": composer.family,
        "images": len(unique.gallery),
        "names": value_hash([list(unique.gallery.names), dict(unique.row)]),
        "weights": tensors_hash(composer.frozen_tensors()),
        "preprocess": value_hash(composer.preprocess.describe()),
        "dtype": settings.dtype,
        "reference": settings.reference,
    }


def build_bank(
    composer: Composer,
    unique: UniqueImages,
    settings: BankSettings,
    out: Path,
    work: Path,
    workers: int,
    device: torch.device,
) -> None:
    """Encodes every unique image once and writes the bank to the folder `out`.

    The first image is encoded alone. Its features determine the size of the bank, which is printed, and the free disk
    space is checked before the other images are encoded.

    Args:
        composer: stage-1 network, on `device`.
        unique: the images.
        settings: batch size, dtype of the reference rows, and whether they are stored.
        out: folder of the bank; written whole or not at all.
        work: folder of an interrupted build of the same bank, or an empty one; at most one batch is lost.
        workers: processes that decode images.
        device: where the network runs.

    Raises:
        InputError: an image cannot be decoded, or the disk has too little space.
    """
    parts, images = _PARTS[settings.reference], len(unique.gallery)
    paths, keep = unique.gallery.paths, torch.full((images,), "reference" in parts)
    done, shapes = _begun(work, parts)
    first: list[ImageFeatures] = []
    with disk_errors(work):
        if not done:
            first = list(encode_batches(composer, paths[:1], 1, 0, device, "encode bank, first image", keep=keep[:1]))
            shapes = {part: [images, *tensor.shape[1:]] for part, tensor in first[0]._asdict().items()}
        print(f"bank: {images:,} images: {_sizes_line(shapes, settings)}", flush=True)
        if done:
            print(f"bank: resumed after {done:,} of {images:,} images", flush=True)
        else:
            _make_files(work / _FILES, shapes, settings)
        maps: Maps = {part: np.load(work / _FILES / f"{part}.npy", mmap_mode="r+") for part in parts}
        rest = encode_batches(composer, paths, settings.batch_size, workers, device, "encode bank", done or 1, keep)
        for features in chain(first, rest):
            done += _append(maps, features, done)
            write_json(work / _DONE, {"rows": done, "shapes": shapes})
        write_json(work / _FILES / _MANIFEST, manifest(composer, unique, settings), indent=2)
    _publish(work / _FILES, out)


def _publish(files: Path, out: Path) -> None:
    """Publishes the finished files as the folder `out`: hard links, or copies where links are not possible.

    The work folder keeps its links, so that a stage killed before DVC has stored the bank encodes nothing again, and
    the disk holds no second copy. This is safe although DVC makes its own link read-only and moves it into its cache:
    a complete bank is never written again, because all its rows are recorded as done and its manifest is replaced.
    """
    with atomic_folder(out) as folder:
        for path in sorted(files.iterdir()):
            try:
                os.link(path, folder / path.name)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(path, folder / path.name)


def _begun(work: Path, parts: tuple[str, ...]) -> tuple[int, Shapes]:
    """The number of rows an interrupted build finished and the shapes of both parts; 0 if there is none."""
    if not (work / _DONE).is_file() or not all((work / _FILES / f"{part}.npy").is_file() for part in parts):
        return 0, {}
    noted = read_json(work / _DONE)
    return int(noted["rows"]), noted["shapes"]


def _dtype(part: str, settings: BankSettings) -> np.dtype[Any]:
    return np.dtype(settings.dtype if part == "reference" else _TARGET_DTYPE)


def _sizes(shapes: Shapes, settings: BankSettings) -> dict[str, int]:
    """Size of each part in bytes."""
    return {part: prod(shape) * _dtype(part, settings).itemsize for part, shape in shapes.items()}


def _sizes_line(shapes: Shapes, settings: BankSettings) -> str:
    """The size of both parts, as a printed line."""
    sizes = _sizes(shapes, settings)
    where = "on disk" if settings.reference == "stored" else "encoded again in each step: none of it on disk"
    return (
        f"reference rows as {settings.dtype} {sizes['reference'] / 1e6:,.1f} MB, {where}; "
        f"targets as {_TARGET_DTYPE} {sizes['target'] / 1e6:,.1f} MB"
    )


def _make_files(folder: Path, shapes: Shapes, settings: BankSettings) -> None:
    """Creates the files at full size, without holes.

    Raises InputError before it creates the first file if the disk has too little space.
    """
    parts, sizes = _PARTS[settings.reference], _sizes(shapes, settings)
    require_space(folder, sum(sizes[part] for part in parts), _remedy(settings))
    folder.mkdir(exist_ok=True)
    for part in parts:
        path = folder / f"{part}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=_dtype(part, settings), shape=tuple(shapes[part]))
        with path.open("r+b") as stream:
            claim_space(stream.fileno(), path.stat().st_size)


def _remedy(settings: BankSettings) -> str:
    """Advice for a disk with too little space."""
    place = "in params.yaml set bank.<dataset>.<family>"
    ways = ["free some space"]
    if settings.reference == "stored" and settings.dtype != "float16":
        ways.append(f"{place}.dtype: float16 (half the size of the reference rows)")
    if settings.reference == "stored":
        ways.append(f"{place}.reference: recomputed (no reference rows on disk, slower steps)")
    return ", or ".join(ways)


def _append(maps: Maps, features: ImageFeatures, start: int) -> int:
    """Writes a batch and returns its number of rows. Raises InputError for values that the dtype cannot hold."""
    for part, stored in maps.items():
        tensor: Tensor = getattr(features, part)
        largest = float(tensor.abs().max())
        if largest > float(np.finfo(stored.dtype).max):
            raise InputError(
                f"bank: {part} features reach {largest:.3g}, more than {stored.dtype} can hold; "
                "in params.yaml set bank.<dataset>.<family>.dtype: float32"
            )
        stored[start : start + len(tensor)] = tensor.numpy()
        stored.flush()
    return len(features.target)


def open_bank(folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings) -> Bank:
    """Opens the bank of a folder and checks that it was built for this network, these images and these settings.

    Raises InputError that names the differences (weights, preprocessing, images), and for a file that is damaged or of
    another dtype.
    """
    found = read_json(folder / _MANIFEST)
    expected = manifest(composer, unique, settings)
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        raise InputError(
            f"{folder}: the bank was built with other {', '.join(differing)}; build it again from this checkpoint"
        )
    target = _targets(folder / "target.npy", len(unique.gallery))
    return Bank(_references(folder, composer, unique, settings), target, dict(unique.row))


def _targets(path: Path, images: int) -> Float[Tensor, "images ..."]:
    """The target features. Raises InputError unless the file contains `images` rows in float32.

    Earlier versions stored targets in the dtype of the reference rows.
    """
    try:
        stored = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); build the bank again") from None
    if stored.dtype != _TARGET_DTYPE:
        raise InputError(f"{path}: contains targets in {stored.dtype}, expected {_TARGET_DTYPE}; build the bank again")
    if len(stored) != images:
        raise InputError(f"{path}: contains {len(stored):,} rows, expected {images:,}; build the bank again")
    return torch.from_numpy(stored)


def _references(folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings) -> References:
    if settings.reference == "stored":
        return StoredReferences(folder / "reference.npy", len(unique.gallery))
    return RecomputedReferences(ImageFiles(unique.gallery.paths, composer.preprocess))
