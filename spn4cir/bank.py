"""The bank: features of every unique training image, in files beside a manifest.

Target features are read whole. Reference features are memory-mapped, or not stored at all (`reference: recomputed`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.encoding import encode_batches
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, claim_space, disk_errors, read_json, require_space, value_hash, write_json
from spn4cir.images import ImageFiles
from spn4cir.params import Bank as BankSettings
from spn4cir.references import RecomputedReferences, References, StoredReferences
from spn4cir.types import UniqueImages

_MANIFEST = "manifest.json"
# In the work folder: how many rows are written, and the folder that becomes the bank.
_DONE = "done.json"
_FILES = "bank"
# The stored parts, by what the settings say of reference features.
_PARTS = {"stored": ("reference", "target"), "recomputed": ("target",)}

Maps = dict[str, np.memmap[Any, Any]]


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, shapes and float32 values, in hex."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Bank:
    """Features of every unique training image.

    Attributes:
        reference: where the reference features of a step come from.
        target: (images, ...), float32 in memory: the loss reads all of it at every step.
        row: for every image name, duplicates included, its row.
    """

    reference: References
    target: Float[Tensor, "images ..."]
    row: dict[str, int]


def manifest(composer: Composer, unique: UniqueImages, settings: BankSettings) -> dict[str, Any]:
    """What a bank depends on: the frozen weights, the preprocessing, the images and their order, the settings."""
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

    Args:
        composer: stage-1 network, on `device`.
        unique: the images.
        settings: dtype, batch size, and whether reference features are stored.
        out: where the bank goes, whole.
        work: folder of an interrupted build of the same bank, or an empty one: at most one batch is lost.
        workers: processes that decode.
        device: where the network runs.

    Raises:
        InputError: an image cannot be decoded, or the disk is too full.
    """
    parts, images = _PARTS[settings.reference], len(unique.gallery)
    done = _rows_done(work, parts)
    if done:
        print(f"bank: resumed after {done} of {images} images", flush=True)
    keep = torch.full((images,), "reference" in parts)
    paths = unique.gallery.paths
    maps: Maps = {}
    with disk_errors(work):
        for features in encode_batches(
            composer, paths, settings.batch_size, workers, device, "encode bank", done, keep
        ):
            if not done:
                _make_files(work / _FILES, features, images, settings)
            maps = maps or {part: np.load(work / _FILES / f"{part}.npy", mmap_mode="r+") for part in parts}
            done += _append(maps, features, done)
            write_json(work / _DONE, {"rows": done})
        write_json(work / _FILES / _MANIFEST, manifest(composer, unique, settings), indent=2)
    _publish(work / _FILES, out)


def _publish(files: Path, out: Path) -> None:
    """Links the finished files into the folder `out`, whole; copies them where links are not to be had.

    The work keeps its names of them, so that a stage killed before DVC has stored the bank encodes nothing again, and
    no second copy is made on the same disk. That is sound although DVC makes its own link read-only and puts it into
    its cache: a complete bank is never written again, its rows are all noted as done and its manifest is replaced.
    """
    with atomic_folder(out) as folder:
        for path in sorted(files.iterdir()):
            try:
                os.link(path, folder / path.name)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(path, folder / path.name)


def _rows_done(work: Path, parts: tuple[str, ...]) -> int:
    """Rows that an interrupted build finished."""
    if not (work / _DONE).is_file() or not all((work / _FILES / f"{part}.npy").is_file() for part in parts):
        return 0
    return int(read_json(work / _DONE)["rows"])


def _make_files(folder: Path, features: ImageFeatures, images: int, settings: BankSettings) -> None:
    """The files at full size, without holes. Raises InputError before the first when the disk is too full."""
    shapes = {part: (images, *tensor.shape[1:]) for part, tensor in features._asdict().items()}
    sizes = {part: int(np.prod(shape)) * np.dtype(settings.dtype).itemsize for part, shape in shapes.items()}
    parts = _PARTS[settings.reference]
    where = "on disk" if "reference" in parts else "encoded again in each step: none of it on disk"
    print(
        f"bank: {images:,} images as {settings.dtype}: reference rows {sizes['reference'] / 1e6:,.1f} MB, {where}; "
        f"targets {sizes['target'] / 1e6:,.1f} MB",
        flush=True,
    )
    require_space(folder, sum(sizes[part] for part in parts), _remedy(settings))
    folder.mkdir(exist_ok=True)
    for part in parts:
        path = folder / f"{part}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(settings.dtype), shape=shapes[part])
        with path.open("r+b") as stream:
            claim_space(stream.fileno(), path.stat().st_size)


def _remedy(settings: BankSettings) -> str:
    """What to do when the disk has too little room."""
    place = "in params.yaml set bank.<dataset>.<family>"
    ways = ["free some room"]
    if settings.dtype != "float16":
        ways.append(f"{place}.dtype: float16 (half the size)")
    if settings.reference == "stored":
        ways.append(f"{place}.reference: recomputed (no reference rows on disk, slower steps)")
    return ", or ".join(ways)


def _append(maps: Maps, features: ImageFeatures, start: int) -> int:
    """Writes a batch to the disk; returns its rows. Raises InputError for values beyond what the dtype holds."""
    for part, stored in maps.items():
        tensor: Tensor = getattr(features, part)
        largest = float(tensor.abs().max())
        if largest > float(np.finfo(stored.dtype).max):
            raise InputError(
                f"bank: {part} features reach {largest:.3g}, more than {stored.dtype} holds; "
                "in params.yaml set bank.<dataset>.<family>.dtype: float32"
            )
        stored[start : start + len(tensor)] = tensor.numpy()
        stored.flush()
    return len(features.target)


def open_bank(folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings) -> Bank:
    """The bank of a folder, checked against what it is to be used with.

    Raises InputError that names what differs: other weights, other preprocessing, other images.
    """
    found = read_json(folder / _MANIFEST)
    expected = manifest(composer, unique, settings)
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        raise InputError(
            f"{folder}: the bank was built with other {', '.join(differing)}; build it again from this checkpoint"
        )
    target = torch.from_numpy(np.load(folder / "target.npy").astype(np.float32))
    return Bank(_references(folder, composer, unique, settings), target, dict(unique.row))


def _references(folder: Path, composer: Composer, unique: UniqueImages, settings: BankSettings) -> References:
    if settings.reference == "stored":
        return StoredReferences(folder / "reference.npy", len(unique.gallery))
    return RecomputedReferences(ImageFiles(unique.gallery.paths, composer.preprocess))
