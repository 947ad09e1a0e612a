"""Reference features of a training step: rows stored on disk, or images that are encoded again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.images.preprocess import BatchLoader, ImageFiles, read_ahead

# A batch with fewer bytes of rows is read in the main process: starting processes each epoch would take longer.
_SMALL_BATCH = 4 << 20
# Bytes that all batches read ahead, or being read, may take together: each process holds one.
_READ_AHEAD = 2 << 30


class References(Protocol):
    """Reference features by row of the unique images."""

    def read(self, needed: Sequence[Tensor], workers: int, device: torch.device) -> Iterator[Tensor]:
        """The input of each step, in order, read ahead by processes; on the CPU, pinned if the device is a GPU.

        Args:
            needed: the rows of each step, unique and sorted.
            workers: processes that read or decode; 0: none.
            device: where the steps run.
        """

    def features(self, composer: Composer, read: Tensor) -> Tensor:
        """Reference features, one row for each row of `read`, on its device, without gradients."""


class StoredReferences(Dataset[Tensor]):
    """Rows of a memory-mapped file; each worker process opens the file itself.

    Args:
        path: the `.npy` file, (images, ...).
        images: expected number of rows.

    Raises:
        InputError: the file is absent, truncated or of another size.
    """

    def __init__(self, path: Path, images: int) -> None:
        self.path = path
        if len(self.array) != images:
            raise InputError(f"{path}: contains {len(self.array):,} rows, expected {images:,}; build the bank again")

    @cached_property
    def array(self) -> np.memmap[Any, Any]:
        """The memory-mapped file."""
        try:
            mapped: np.memmap[Any, Any] = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read ({error}); build the bank again") from None
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Tensor:
        """Rows in the file's dtype."""
        self._announce(np.asarray(rows))
        return torch.from_numpy(np.asarray(self.array)[rows])

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes."""
        return self.array.nbytes // max(len(self), 1)

    def _announce(self, rows: np.ndarray[Any, Any]) -> None:
        """Announces the rows to the operating system, which then reads them in large pieces, several at a time.

        Without the hint it reads ahead within a row only, one small piece at each page fault.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        with suppress(OSError), self.path.open("rb") as stream:  # only a hint: the mapped rows can be read without it
            for row in rows.tolist():
                start = self.array.offset + row * self.row_bytes
                os.posix_fadvise(stream.fileno(), start, self.row_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, needed: Sequence[Tensor], workers: int, device: torch.device) -> Iterator[Tensor]:
        """Rows in the file's dtype; processes read ahead if the rows of a batch are large."""
        largest = max((len(rows) for rows in needed), default=0) * self.row_bytes
        workers = 0 if largest < _SMALL_BATCH else min(workers, max(1, _READ_AHEAD // largest))
        loader = BatchLoader(
            self,
            batch_size=None,
            sampler=[rows.numpy() for rows in needed],
            num_workers=workers,
            prefetch_factor=1 if workers else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
        )
        return read_ahead(loader)

    def features(self, composer: Composer, read: Tensor) -> Tensor:
        """The rows as float32."""
        del composer
        return read.float()


class RecomputedReferences:
    """Decodes and encodes the unique images of a step again, in the precision of the step; no rows are stored.

    Args:
        files: the unique images.
    """

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def read(self, needed: Sequence[Tensor], workers: int, device: torch.device) -> Iterator[Tensor]:
        """Cropped images, not yet normalised."""
        return read_ahead(image_loader(self.files, needed, workers, device))

    def features(self, composer: Composer, read: Tensor) -> Tensor:
        """Reference features without dropout, as a bank stores them."""
        with torch.no_grad(), _evaluating(composer):
            return composer.encode_image(self.files.preprocess.normalise(read)).reference.float()


def image_loader(files: ImageFiles, needed: Sequence[Tensor], workers: int, device: torch.device) -> BatchLoader[Any]:
    """Loads cropped images of each step's rows, decoded ahead.

    It has its own generator, so that it does not change the draws of dropout.
    """
    return BatchLoader(
        files,
        batch_sampler=[rows.tolist() for rows in needed],
        num_workers=min(workers, len(needed)),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )


@contextmanager
def _evaluating(composer: Composer) -> Iterator[None]:
    """Puts every module into evaluation mode, and restores its mode afterwards."""
    training = [module for module in composer.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
