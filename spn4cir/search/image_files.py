"""Image files of a search: their stamps, their digests, and the crop that the network gets."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.images.decoding import eight_bit, image_digest, open_image
from spn4cir.images.preprocess import BatchLoader, Preprocess, read_ahead
from spn4cir.images.tars import tar_of
from spn4cir.packed import PackedPaths
from spn4cir.progress import progress

# Bytes of a hash.
DIGEST_BYTES = 32
# Limit of a padded image: Pillow refuses files with more pixels.
_MAX_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Stamp:
    """Path, size and time of a file when it was read. A file with another stamp is read again.

    Attributes:
        path: absolute path.
        size: size in bytes, of a member of a tar that of the tar; -1 if the file does not exist.
        modified: modification time in nanoseconds.
    """

    path: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class ImageDigests:
    """Hashes that identify an image.

    Attributes:
        digest: hash of the decoded pixels, equal for equal images whatever the format of the file.
        crop: hash of the cropped pixels that the network gets; images with the same one share a vector.
    """

    digest: bytes
    crop: bytes


class DecodedImage(NamedTuple):
    """A decoded image: its digests, and its cropped pixels before normalisation."""

    digests: ImageDigests
    pixels: UInt8[Tensor, "3 size size"]


class DecodedBatch(NamedTuple):
    """A batch of images in order, an error for each that cannot be decoded, and the pixels of the others."""

    images: list[ImageDigests | InputError]
    pixels: UInt8[Tensor, "decoded 3 size size"]


def stamp(path: Path) -> Stamp:
    """The stamp of a file; of a member of a tar, with the size and time of the tar.

    A missing file has size -1; decoding it raises the error.
    """
    path = path.absolute()
    try:
        status = (tar_of(path) or path).stat()
    except (OSError, ValueError):  # a name may contain a NUL
        return Stamp(str(path), -1, 0)
    return Stamp(str(path), status.st_size, status.st_mtime_ns)


def read_image(image: Path | Image.Image, preprocess: Preprocess) -> DecodedImage:
    """Decodes an image. Raises InputError if it cannot be decoded, or is too narrow to be padded."""
    name = image if isinstance(image, Path) else "the image"
    decoded = open_image(image) if isinstance(image, Path) else _loaded(image)
    _check_shape(decoded, str(name), preprocess)
    pixels = preprocess.crop(decoded)
    crop = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=DIGEST_BYTES).digest()
    return DecodedImage(ImageDigests(image_digest(decoded), crop), pixels)


def _loaded(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return eight_bit(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"the image cannot be decoded ({error}); choose another one") from None


def _check_shape(image: Image.Image, name: str, preprocess: Preprocess) -> None:
    """Refuses an image without pixels, and one that exceeds `_MAX_PIXELS` when it is padded or resized."""
    size = f"{image.width} x {image.height}"
    if not min(image.size):
        raise InputError(f"{name}: has no pixels ({size}); choose another image")
    if padded_pixels(image, preprocess) > max(_MAX_PIXELS, image.width * image.height):
        raise InputError(f"{name}: is too narrow ({size}): crop it before you use it")


def padded_pixels(image: Image.Image, preprocess: Preprocess) -> float:
    """The largest number of pixels of an image while it is padded and resized."""
    longer, shorter = max(image.size), max(min(image.size), 1)
    if preprocess.target_ratio is None:
        return longer * preprocess.size**2 / shorter
    return longer**2 / preprocess.target_ratio


def read_digests(path: Path, preprocess: Preprocess) -> ImageDigests | InputError:
    """Returns the digests of an image, or the error if it cannot be decoded."""
    try:
        return read_image(path, preprocess).digests
    except InputError as error:
        return error


class _Files(torch.utils.data.Dataset[DecodedImage | InputError]):
    """The images of a list of files. An item is an error if its image cannot be decoded."""

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess) -> None:
        self.paths = PackedPaths(paths)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> DecodedImage | InputError:
        try:
            return read_image(self.paths[index], self.preprocess)
        except InputError as error:
            return error


def _stack(found: list[DecodedImage | InputError]) -> DecodedBatch:
    """One tensor a batch, as each tensor that a worker returns costs an open file."""
    pixels = [each.pixels for each in found if isinstance(each, DecodedImage)]
    stacked = torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8)
    return DecodedBatch([each.digests if isinstance(each, DecodedImage) else each for each in found], stacked)


def read_images(
    paths: Sequence[Path], preprocess: Preprocess, batches: Sequence[Sequence[int]], workers: int, done: int
) -> Iterator[DecodedBatch]:
    """Yields batches of images, decoded by `workers` processes (0 workers or a single batch: by this process).

    An image that cannot be decoded is an InputError in its batch. Raises InputError if a worker process dies.

    Args:
        paths: the files of all images.
        preprocess: the crop of the network.
        batches: the positions of the images of each batch.
        workers: number of processes.
        done: number of batches that an earlier run finished.
    """
    processes = min(workers, len(batches)) if len(batches) > 1 else 0
    loader = BatchLoader(
        _Files(paths, preprocess), batch_sampler=map(list, batches), num_workers=processes, collate_fn=_stack
    )
    yield from read_ahead(progress(loader, done + len(batches), "index", "batch", done))
