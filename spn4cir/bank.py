"""The bank: features of every unique training image, in memory-mapped files beside a manifest."""

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
from spn4cir.files import atomic_folder, disk_errors, read_json, require_space, value_hash, write_json
from spn4cir.params import Bank as BankSettings
from spn4cir.types import UniqueImages

_MANIFEST = "manifest.json"
# In the work folder: how many rows are written, and the folder that becomes the bank.
_DONE = "done.json"
_FILES = "bank"
_PARTS = ("reference", "target")


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
        reference: (images, ...), memory-mapped, in the bank's dtype.
        target: (images, ...), float32 in memory: the loss reads all of it at every step.
        row: for every image name, duplicates included, its row.
    """

    reference: np.ndarray[Any, Any]
    target: Float[Tensor, "images ..."]
    row: dict[str, int]

    def references(self, rows: Tensor) -> Tensor:
        """Reference features of some rows, float32."""
        return torch.from_numpy(self.reference[rows.numpy()].astype(np.float32))


def manifest(composer: Composer, unique: UniqueImages, settings: BankSettings) -> dict[str, Any]:
    """What a bank depends on: the frozen weights, the preprocessing, the images and their order, the dtype."""
    return {
        "family": composer.family,
        "images": len(unique.gallery),
        "names": value_hash([list(unique.gallery.names), dict(unique.row)]),
        "weights": tensors_hash(composer.frozen_tensors()),
        "preprocess": value_hash(composer.preprocess.describe()),
        "dtype": settings.dtype,
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
        settings: dtype and batch size.
        out: where the bank goes, whole.
        work: folder of an interrupted build of the same bank, or an empty one: at most one batch is lost.
        workers: processes that decode.
        device: where the network runs.

    Raises:
        InputError: an image cannot be decoded, or the disk is too full.
    """
    done = _rows_done(work)
    if done:
        print(f"bank: resumed after {done} of {len(unique.gallery)} images", flush=True)
    maps: dict[str, np.memmap[Any, Any]] = {}
    batches = encode_batches(composer, unique.gallery.paths, settings.batch_size, workers, device, "encode bank", done)
    with disk_errors(work):
        for features in batches:
            if not maps:
                maps = _open_maps(work / _FILES, features, len(unique.gallery), settings.dtype, resume=done > 0)
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


def _rows_done(work: Path) -> int:
    """Rows that an interrupted build finished."""
    if not (work / _DONE).is_file() or not all((work / _FILES / f"{part}.npy").is_file() for part in _PARTS):
        return 0
    return int(read_json(work / _DONE)["rows"])


def _open_maps(
    folder: Path, features: ImageFeatures, images: int, dtype: str, resume: bool
) -> dict[str, np.memmap[Any, Any]]:
    """The two files, at full size."""
    shapes = {part: (images, *tensor.shape[1:]) for part, tensor in zip(_PARTS, features, strict=True)}
    if not resume:
        size = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape in shapes.values())
        print(f"bank: {images} images, {size / 1e6:,.1f} MB as {dtype}", flush=True)
        require_space(folder, size)
        folder.mkdir(exist_ok=True)
    maps = {
        part: np.lib.format.open_memmap(
            folder / f"{part}.npy", mode="r+" if resume else "w+", dtype=np.dtype(dtype), shape=shape
        )
        for part, shape in shapes.items()
    }
    for part in maps:
        _claim(folder / f"{part}.npy")
    return maps


def _claim(path: Path) -> None:
    """Fills the holes of a file: writing to one through its map ends in a bus error when the disk is full by then."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _append(maps: dict[str, np.memmap[Any, Any]], features: ImageFeatures, start: int) -> int:
    """Writes a batch to the disk; returns its rows."""
    for part, tensor in zip(_PARTS, features, strict=True):
        maps[part][start : start + len(tensor)] = tensor.numpy()
        maps[part].flush()
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
    reference = np.load(folder / "reference.npy", mmap_mode="r")
    target = torch.from_numpy(np.load(folder / "target.npy").astype(np.float32))
    return Bank(reference, target, dict(unique.row))
