"""Decoders of JPEG files beside Pillow at full size, which the package uses: speed, and differences of pixels."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torchvision.transforms.functional import to_pil_image

from spn4cir.images.preprocess import Preprocess

DRAWN = 64
CROP = 288


def by_pillow(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def by_draft(path: Path) -> Image.Image:
    """Decodes at the smallest scale of the DCT (1/2, 1/4, 1/8) at which both sides are at least those of the crop."""
    with Image.open(path) as image:
        image.draft("RGB", (CROP, CROP))
        image.load()
        return image


def by_torchvision(path: Path) -> Image.Image:
    """Decodes by torchvision, which reads JPEG with the library that Pillow uses; its function is deprecated."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    found: Image.Image = to_pil_image(decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB))
    return found


def by_turbojpeg(path: Path) -> Image.Image:
    """Decodes by libjpeg-turbo's own interface, TurboJPEG, as simplejpeg binds it."""
    import simplejpeg

    return Image.fromarray(simplejpeg.decode_jpeg(path.read_bytes(), "RGB"))


DECODERS = {"pillow": by_pillow, "draft": by_draft, "torchvision": by_torchvision}
if find_spec("simplejpeg"):
    DECODERS["turbojpeg"] = by_turbojpeg


@pytest.mark.parametrize("size", [(300, 400), (1024, 768)], ids=["fashioniq", "large"])
def test_other_decoders(
    benchmark: BenchmarkFixture,
    draw_photos: Callable[..., tuple[Path, ...]],
    tmp_path: Path,
    size: tuple[int, int],
) -> None:
    """JPEG files to crops of 288 pixels, one process: images per second, and the largest difference of a crop's values.

    The decoder of the package is Pillow at full size. A faster one would be used only if its crops were equal.
    TurboJPEG is compared where simplejpeg is installed (`pip install simplejpeg`).
    """
    paths = draw_photos(tmp_path, DRAWN, *size, "jpg")
    crop = Preprocess(CROP).crop
    rates: dict[str, list[float]] = {name: [] for name in DECODERS}

    def compare() -> None:
        for name, decode in DECODERS.items():
            started = perf_counter()
            for path in paths:
                crop(decode(path))
            rates[name].append(len(paths) / (perf_counter() - started))

    benchmark.pedantic(compare, rounds=3, warmup_rounds=1)
    for name, decode in DECODERS.items():
        pairs = [(crop(decode(path)).numpy().astype(int), crop(by_pillow(path)).numpy()) for path in paths]
        differences = np.array([np.abs(own - pillow).max() for own, pillow in pairs])
        benchmark.extra_info[f"{name}_images_per_second"] = round(max(rates[name]))
        benchmark.extra_info[f"{name}_largest_difference"] = int(differences.max())
    assert benchmark.extra_info["pillow_largest_difference"] == 0
