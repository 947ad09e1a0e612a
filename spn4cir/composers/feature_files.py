"""Features of many images in NumPy files with a manifest: written batch by batch, resumed, published whole."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spn4cir.composers.encoding import tensors_hash
from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, claim_space, disk_errors, require_space, value_hash
from spn4cir.json_files import read_json, write_json

_MANIFEST = "manifest.json"
# In the work folder: the number of images written with the shapes of both parts, and the folder that is published.
_DONE = "done.json"
_FILES = "files"

Maps = dict[str, np.memmap[Any, Any]]
# The shape of one image's features, by part.
RowShapes = dict[str, list[int]]


@dataclass(frozen=True)
class FeatureFiles:
    """Files of features, `reference.npy` and `target.npy`, that are being written to a work folder.

    Attributes:
        name: name of the whole for messages, such as `bank`.
        work: folder of an interrupted build of the same features, or an empty one; at most one batch is lost.
        dtypes: number type of each part that is stored, by part (`reference`, `target`).
        keep: the images whose reference features are stored.
        sizes_line: the size of both parts as a line to print, from the shapes of a row.
        space_remedy: advice for a disk with too little space.
        range_remedy: advice for values that a number type cannot hold.
    """

    name: str
    work: Path
    dtypes: Mapping[str, str]
    keep: Bool[Tensor, " images"]
    sizes_line: Callable[[RowShapes], str]
    space_remedy: str
    range_remedy: str

    def write(self, encode: Callable[[int], Iterator[ImageFeatures]], manifest: Callable[[], dict[str, Any]]) -> None:
        """Writes all features, and the manifest when they are complete.

        The first batch determines the sizes. They are printed, and the free disk space is checked, before the second.

        Args:
            encode: yields the features of the images from a position on, in order, as `encode_batches` does.
            manifest: everything that the features depend on.

        Raises:
            InputError: the disk has too little space, or a number type cannot hold a value.
        """
        with disk_errors(self.work):
            done, shapes = self._begun()
            maps: Maps = {}
            if done:
                self._print_sizes(shapes)
                print(f"{self.name}: resumed after {done:,} of {len(self.keep):,} images", flush=True)
                if done < len(self.keep):  # complete files may be read-only, as DVC leaves what it has stored
                    maps = self._open_maps()
            for features in encode(done):
                if not maps:
                    shapes = {part: list(tensor.shape[1:]) for part, tensor in features._asdict().items()}
                    self._print_sizes(shapes)
                    self._make_files(shapes)
                    maps = self._open_maps()
                done += _append(self, maps, features, done)
                write_json(self.work / _DONE, {"images": done, "shapes": shapes})
            write_json(self.work / _FILES / _MANIFEST, manifest(), indent=2)

    def publish(self, out: Path) -> None:
        """Publishes the finished files as the folder `out`: hard links, or copies where links are not possible.

        The work folder keeps its links, so that a stage killed before DVC has stored the files encodes nothing again,
        and the disk holds no second copy. This is safe although DVC makes its own link read-only and moves it into its
        cache: complete files are never written again, because all their rows are recorded as done and the manifest is
        replaced.
        """
        with atomic_folder(out) as folder:
            for path in sorted((self.work / _FILES).iterdir()):
                try:
                    os.link(path, folder / path.name)
                except OSError:  # another disk, or a file system without links
                    shutil.copyfile(path, folder / path.name)

    def _begun(self) -> tuple[int, RowShapes]:
        """The number of images an interrupted build finished and the shapes of a row; 0 if there is none.

        There is none either if its files are gone or cut short, for example by a copy of the folder that ended early.
        """
        done = self.work / _DONE
        if not done.is_file():
            return 0, {}
        noted = read_json(done)
        if all(self._is_whole(part, noted["shapes"][part]) for part in self.dtypes):
            return int(noted["images"]), noted["shapes"]
        done.unlink()  # it would count rows of the new files as written
        print(f"{self.name}: files of the interrupted build are incomplete: encodes all images again", flush=True)
        return 0, {}

    def _is_whole(self, part: str, shape: list[int]) -> bool:
        try:
            stored = np.lib.format.open_memmap(self._path(part), mode="r")
        except (OSError, ValueError):
            return False
        return stored.dtype == self.dtypes[part] and stored.shape == (self._rows(part), *shape)

    def _rows(self, part: str) -> int:
        return len(self.keep) if part == "target" else int(self.keep.sum())

    def _path(self, part: str) -> Path:
        return self.work / _FILES / f"{part}.npy"

    def _print_sizes(self, shapes: RowShapes) -> None:
        print(f"{self.name}: {len(self.keep):,} images: {self.sizes_line(shapes)}", flush=True)

    def _open_maps(self) -> Maps:
        return {part: np.load(self._path(part), mmap_mode="r+") for part in self.dtypes}

    def _make_files(self, shapes: RowShapes) -> None:
        """Creates the files at full size, without holes.

        Raises InputError before it creates the first file if the disk has too little space.
        """
        folder = self.work / _FILES
        sizes = (size_in_bytes(self._rows(part), shapes[part], dtype) for part, dtype in self.dtypes.items())
        require_space(folder, sum(sizes), self.space_remedy)
        folder.mkdir(exist_ok=True)
        for part, dtype in self.dtypes.items():
            path = self._path(part)
            np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(self._rows(part), *shapes[part]))
            with path.open("r+b") as stream:
                claim_space(stream.fileno(), path.stat().st_size)


def _append(files: FeatureFiles, maps: Maps, features: ImageFeatures, done: int) -> int:
    """Writes a batch and returns its number of images. Raises InputError for values that the dtype cannot hold."""
    starts = {"reference": int(files.keep[:done].sum()), "target": done}
    for part, stored in maps.items():
        tensor: Tensor = getattr(features, part)
        largest = float(tensor.abs().max()) if len(tensor) else 0.0
        if largest > float(np.finfo(stored.dtype).max):
            raise InputError(
                f"{files.name}: {part} features reach {largest:.3g}, more than {stored.dtype} can hold; "
                f"{files.range_remedy}"
            )
        stored[starts[part] : starts[part] + len(tensor)] = tensor.numpy()
        stored.flush()
    return len(features.target)


def size_in_bytes(rows: int, shape: list[int], dtype: str) -> int:
    """Returns the size of rows of a shape, without the header of their file."""
    return rows * prod(shape) * np.dtype(dtype).itemsize


def describe_features(composer: Composer, names: Any, images: int) -> dict[str, Any]:
    """Returns what features of images depend on: the network's frozen weights, the preprocessing, the images.

    Args:
        composer: the network.
        names: names of the images in order, and what else distinguishes them, as a JSON-like value.
        images: number of images.
    """
    return {
        "family": composer.family,
        "images": images,
        "names": value_hash(names),
        "weights": tensors_hash(composer.frozen_tensors()),
        "preprocess": value_hash(composer.preprocess.describe()),
    }


def differing_keys(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """Returns the keys by which a folder's manifest differs from the expected one; empty if the features fit.

    Raises InputError if there is no manifest.
    """
    found = read_json(folder / _MANIFEST)
    return [key for key in expected if found.get(key) != expected[key]]


def read_rows(path: Path, rows: int, dtype: str, remedy: str, mapped: bool = True) -> Float[Tensor, "rows ..."]:
    """Returns the rows of a file.

    Args:
        path: the file.
        rows: the number of rows that it must have.
        dtype: the type of number that it must contain.
        remedy: what to do about a file that is none of this, for the message.
        mapped: maps the file into memory: the system reads rows on access, may drop them again, and several processes
            share them. Otherwise all rows are read.

    Raises:
        InputError: the file cannot be read, or has another number of rows or type of number.
    """
    try:
        # Copy-on-write: torch warns of arrays that are read-only.
        stored = np.load(path, mmap_mode="c" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}") from None
    if stored.dtype != dtype:
        raise InputError(f"{path}: contains {stored.dtype}, expected {dtype}; {remedy}")
    if len(stored) != rows:
        raise InputError(f"{path}: contains {len(stored):,} rows, expected {rows:,}; {remedy}")
    return torch.from_numpy(stored)
