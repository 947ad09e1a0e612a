"""Decoding and preprocessing of images."""

import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import clear_frames
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image, to_rgb
from spn4cir.images.forks import objects_shared
from spn4cir.packed import PackedPaths

Batch = TypeVar("Batch")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Converts a decoded image to the network's input.

    Attributes:
        size: side of the square input, in pixels.
        target_ratio: images whose aspect ratio is at least this are padded to it with zeros; None disables padding.
        mean: mean of each channel, of RGB values in [0, 1].
        std: standard deviation of each channel, of RGB values in [0, 1].

    The conversion to RGB follows the crop, as in the original code: palette and RGBA files are resized in their own
    mode. Source: CLIP4Cir's `targetpad`, https://github.com/ABaldrati/CLIP4Cir.
    """

    size: int
    target_ratio: float | None = 1.25
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        """Returns the normalised pixels of a decoded image."""
        return self.normalise(self.crop(image))

    def crop(self, image: Image.Image) -> UInt8[Tensor, "3 size size"]:
        """Pads, resizes and crops a decoded image; returns its RGB pixels, which are those of torchvision's transforms.

        torchvision itself is not used, because its import takes about as long as that of torch.
        """
        image = self._pad(image)
        shorter = min(image.size)
        width, height = (int(self.size * side / shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        square = to_rgb(image.crop((left, top, left + self.size, top + self.size)))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def normalise(self, pixels: UInt8[Tensor, "... 3 size size"]) -> Float[Tensor, "... 3 size size"]:
        """Returns (pixels / 255 - mean) / std, per channel."""
        mean, std = (torch.tensor(values, device=pixels.device).reshape(3, 1, 1) for values in (self.mean, self.std))
        return pixels.float().div_(255).sub_(mean).div_(std)

    def _pad(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if self.target_ratio is None or max(width, height) / min(width, height) < self.target_ratio:
            return image
        side = max(width, height) / self.target_ratio
        horizontal = max(int((side - width) / 2), 0)
        vertical = max(int((side - height) / 2), 0)
        padded = ImageOps.expand(image, (horizontal, vertical, horizontal, vertical), fill=0)
        if (palette := image.getpalette()) is not None:
            padded.putpalette(palette)
        return padded

    def describe(self) -> dict[str, object]:
        """Returns the settings as plain values, for manifests and hashes."""
        return asdict(self)


class BatchLoader(torch.utils.data.DataLoader[Batch]):
    """A DataLoader without torch's warning that it has more workers than this process has cores.

    The number of workers is a setting of the user. torch warns twice for each loader.
    """

    def check_worker_number_rationality(self) -> None:
        """Does nothing; torch's own method only warns."""


class ImageFiles(torch.utils.data.Dataset[UInt8[Tensor, "3 size size"]]):
    """Cropped images of a list of files, for a DataLoader with workers.

    The pixels are not normalised, so that a worker transfers a quarter of the bytes; `Preprocess.normalise` accepts
    whole batches.
    """

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess) -> None:
        self.paths = PackedPaths(paths)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 size size"]:
        return self.preprocess.crop(open_image(self.paths[index]))


def batch_rows(images: int, batch_size: int, first: int | None = None) -> list[range]:
    """Returns the rows of each batch; `first` is the size of the first batch if it differs."""
    begin = min(images, first or 0)
    rest = (range(start, min(images, start + batch_size)) for start in range(begin, images, batch_size))
    return [*([range(begin)] if begin else []), *rest]


def image_batches(
    paths: Sequence[Path], preprocess: Preprocess, batch_size: int, workers: int, first: int | None = None
) -> Iterator[Float[Tensor, "batch 3 size size"]]:
    """Yields batches of preprocessed images in order, decoded by `workers` processes (0 decodes in this one).

    Raises InputError with one line if an image cannot be decoded or a worker is lost.
    """
    rows = batch_rows(len(paths), batch_size, first)
    loader = BatchLoader(
        ImageFiles(paths, preprocess),
        batch_sampler=rows,  # type: ignore[arg-type]  # it iterates over the batches, which need not be lists
        num_workers=min(workers, len(rows)),
    )
    yield from map(preprocess.normalise, read_ahead(loader))


def read_ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields batches that worker processes of torch read. Raises InputError with one line if one cannot or is lost."""
    with worker_errors(), objects_shared():
        for batch in batches:
            with _loss_held():
                yield batch


@contextmanager
def _loss_held() -> Iterator[None]:
    """Delays the error of a lost worker to the end of the block.

    torch raises it from a handler of SIGCHLD, in whatever the main thread runs: also in the code that uses a batch.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    lost: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: lost.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    if lost and callable(before):
        before(signal.SIGCHLD, None)


# torch's messages for a worker that was killed, or has no room for the batch that it transfers.
_WORKER_LOST = re.compile(r"DataLoader worker \(pid|shared memory|torch_\d+|received 0 items of ancdata", re.IGNORECASE)


def _end_workers(error: Exception) -> None:
    """Ends the workers of the loader that raised an error.

    The error and torch's frames refer to each other, and through them the loader stays until Python looks for such
    cycles. Then its queues are closed before the workers are asked to end, and it waits 5 seconds for each. Here it
    waits only for those that decode an image.
    """
    clear_frames(error.__traceback__)


@contextmanager
def worker_errors() -> Iterator[None]:
    """Reduces the error of a DataLoader worker to one line.

    An InputError or a MemoryError is extracted from the traceback that torch adds. A worker that was killed or could
    not share its batch raises an InputError with the remedy, because small containers have 64 MB of shared memory.
    """
    try:
        yield
    except InputError as error:
        _end_workers(error)
        raise InputError(error.args[0].rsplit("InputError: ", 1)[-1].strip()) from None
    except MemoryError as error:
        _end_workers(error)
        raise MemoryError(str(error).rsplit("MemoryError: ", 1)[-1].strip()) from None
    except (RuntimeError, OSError) as error:
        if not _WORKER_LOST.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"a process that reads ahead was lost ({reason}); raise the shared memory (docker run --shm-size=8g) "
            "or the memory, or set machine.workers: 0"
        ) from None
