"""Decoding and preprocessing of images."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from spn4cir.errors import InputError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def open_image(path: Path) -> Image.Image:
    """The decoded image, in the mode of its file.

    Raises InputError when the file is absent, truncated or no image.
    """
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the data folder, or run with missing: skip") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({error}); replace the file or remove it") from None
    return image


@dataclass(frozen=True)
class Preprocess:
    """From a file to the network's input.

    Attributes:
        size: side of the square input, in pixels.
        target_ratio: images whose aspect ratio is at least this are padded to it with zeros; None: no padding.
        mean: per channel, of RGB in [0, 1].
        std: per channel.

    Conversion to RGB comes after the crop, as in the original code: palette and RGBA files are resized in
    their own mode. Source: CLIP4Cir's `targetpad`, https://github.com/ABaldrati/CLIP4Cir.
    """

    size: int
    target_ratio: float | None = 1.25
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        """The normalised pixels of a decoded image."""
        image = transforms.resize(self._pad(image), [self.size], interpolation=InterpolationMode.BICUBIC)
        image = transforms.center_crop(image, [self.size, self.size]).convert("RGB")
        return transforms.normalize(transforms.to_tensor(image), list(self.mean), list(self.std))

    def _pad(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if self.target_ratio is None or max(width, height) / min(width, height) < self.target_ratio:
            return image
        side = max(width, height) / self.target_ratio
        horizontal = max(int((side - width) / 2), 0)
        vertical = max(int((side - height) / 2), 0)
        return transforms.pad(image, [horizontal, vertical, horizontal, vertical], fill=0)

    def describe(self) -> dict[str, object]:
        """The settings as plain values, for manifests and hashes."""
        return asdict(self)


class ImageFiles(torch.utils.data.Dataset[Float[Tensor, "3 size size"]]):
    """Preprocessed images of a list of files, for a DataLoader with workers."""

    def __init__(self, paths: tuple[Path, ...], preprocess: Preprocess) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Float[Tensor, "3 size size"]:
        return self.preprocess(open_image(self.paths[index]))
