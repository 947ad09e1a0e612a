"""Pictures of a gallery, read once: what tells them apart, and what the network sees of them."""

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
from spn4cir.images.preprocess import Preprocess, worker_errors
from spn4cir.progress import progress

# Of a picture as it is padded; Pillow refuses files beyond it.
_MOST_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was when it was read: another size or time means another file.

    Attributes:
        path: absolute.
        size: in bytes.
        modified: in nanoseconds.
    """

    path: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What tells a picture from others.

    Attributes:
        digest: of its pixels: equal pictures have equal ones, whatever their file's format.
        crop: of what the network sees of it: those with equal ones have one vector.
    """

    digest: bytes
    crop: bytes


class Read(NamedTuple):
    """A picture that was decoded, with what the network sees of it, before it is normalised."""

    picture: ImageFile
    pixels: UInt8[Tensor, "3 size size"]


class DecodedBatch(NamedTuple):
    """Pictures in order, errors in the place of those that cannot be decoded, and the pixels of the others."""

    pictures: list[ImageFile | InputError]
    pixels: UInt8[Tensor, "decoded 3 size size"]


def stamp(path: Path) -> Stamp:
    """The file's stamp; one that is not there has size -1, and is refused when it is decoded."""
    place = path.absolute()
    try:
        status = place.stat()
    except OSError:
        return Stamp(str(place), -1, 0)
    return Stamp(str(place), status.st_size, status.st_mtime_ns)


def read_picture(image: Path | Image.Image, preprocess: Preprocess) -> Read:
    """Decodes a picture. Raises InputError when that fails, or when it is too narrow to be padded."""
    name = image if isinstance(image, Path) else "the picture"
    decoded = open_image(image) if isinstance(image, Path) else _loaded(image)
    _check_shape(decoded, str(name), preprocess)
    pixels = preprocess.crop(decoded)
    crop = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=32).digest()
    return Read(ImageFile(image_digest(decoded), crop), pixels)


def _loaded(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return eight_bit(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"the picture cannot be decoded ({error}); choose another one") from None


def _check_shape(image: Image.Image, name: str, preprocess: Preprocess) -> None:
    """Refuses a picture without pixels, and one that becomes larger than Pillow opens when it is padded or resized."""
    size = f"{image.width} x {image.height}"
    if not min(image.size):
        raise InputError(f"{name}: has no pixels ({size}); choose another picture")
    if padded_pixels(image, preprocess) > max(_MOST_PIXELS, image.width * image.height):
        raise InputError(f"{name}: is too narrow ({size}): crop it before you use it")


def padded_pixels(image: Image.Image, preprocess: Preprocess) -> float:
    """How many pixels an image has, at the most, while it is padded and resized."""
    longer, shorter = max(image.size), max(min(image.size), 1)
    if preprocess.target_ratio is None:
        return longer * preprocess.size**2 / shorter
    return longer**2 / preprocess.target_ratio


class _Files(torch.utils.data.Dataset[Read | InputError]):
    """Pictures of a list of files; an error is handed over in the place of one that cannot be decoded."""

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Read | InputError:
        try:
            return read_picture(self.paths[index], self.preprocess)
        except InputError as error:
            return error


def _stack(found: list[Read | InputError]) -> DecodedBatch:
    """One tensor a batch: each tensor that a worker hands over costs an open file."""
    pixels = [each.pixels for each in found if isinstance(each, Read)]
    stacked = torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8)
    return DecodedBatch([each.picture if isinstance(each, Read) else each for each in found], stacked)


def read_pictures(
    paths: Sequence[Path], preprocess: Preprocess, batch_size: int, workers: int
) -> Iterator[DecodedBatch]:
    """Pictures in batches, decoded by `workers` processes (0, or a single batch: in this one).

    Raises InputError when a worker is lost; a picture that cannot be decoded is an InputError in its place.
    """
    processes = workers if len(paths) > batch_size else 0
    loader = torch.utils.data.DataLoader(
        _Files(paths, preprocess), batch_size=batch_size, num_workers=processes, collate_fn=_stack
    )
    with worker_errors():
        yield from progress(loader, -(-len(paths) // batch_size), "index", "batch")
