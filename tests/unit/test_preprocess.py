"""Preprocessing by sizes counted by hand, and images that are not as expected."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image, to_rgb
from spn4cir.images.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    ImageFiles,
    Preprocess,
    image_batches,
    read_ahead,
    worker_errors,
)
from tests.helpers.layouts import draw


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("width", "height", "padded"),
    [
        (100, 100, (100, 100)),
        (100, 124, (100, 124)),  # 1.24: below the ratio
        (100, 125, (100, 125)),  # exactly 1.25: padding starts, 125 / 1.25 - 100 = 0 pixels
        (100, 126, (100, 126)),  # 100.8 wanted: 0.4 a side, truncated to 0
        (100, 128, (102, 128)),  # 102.4 wanted: 1.2 a side, truncated to 1
        (100, 150, (120, 150)),  # 120 wanted: 10 a side
        (150, 100, (150, 120)),
        (50, 200, (160, 200)),
        (10, 1000, (800, 1000)),
    ],
)
def test_sides_after_padding(width: int, height: int, padded: tuple[int, int]) -> None:
    assert Preprocess(32)._pad(noise(width, height)).size == padded


def test_padding_is_black_and_the_image_in_the_middle() -> None:
    padded = np.asarray(Preprocess(32)._pad(noise(100, 150)))
    assert padded[:, :10].max() == padded[:, 110:].max() == 0
    assert (padded[:, 10:110] == np.asarray(noise(100, 150))).all()


def test_no_padding_without_a_ratio() -> None:
    assert Preprocess(32, target_ratio=None)._pad(noise(100, 1000)).size == (100, 1000)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 48), (48, 64), (30, 200), (7, 3), (1, 1)])
def test_pixels_are_those_of_the_steps_one_by_one(width: int, height: int) -> None:
    """Pad, resize the short side with bicubic, crop the centre, then mean and standard deviation of CLIP."""
    image = noise(width, height)
    padded = Preprocess(32)._pad(image)
    short = min(padded.size)
    size = tuple(int(32 * side / short) if side != short else 32 for side in padded.size)
    resized = padded.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in resized.size)
    cropped = np.asarray(resized.crop((left, top, left + 32, top + 32)), dtype=np.float64) / 255
    expected = (cropped - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    torch.testing.assert_close(
        Preprocess(32)(image), torch.from_numpy(expected).permute(2, 0, 1).float(), rtol=0, atol=1e-5
    )


def torchvision_crop(preprocess: Preprocess, image: Image.Image) -> torch.Tensor:
    """The padding by hand, and all else by torchvision."""
    width, height = image.size
    if preprocess.target_ratio is not None and max(image.size) / min(image.size) >= preprocess.target_ratio:
        side = max(image.size) / preprocess.target_ratio
        across, down = (max(int((side - own) / 2), 0) for own in (width, height))
        image = transforms.pad(image, [across, down, across, down], fill=0)
    image = transforms.resize(image, [preprocess.size], interpolation=InterpolationMode.BICUBIC)
    return transforms.pil_to_tensor(to_rgb(transforms.center_crop(image, [preprocess.size] * 2)))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "CMYK", "1", "YCbCr"])
def test_a_crop_is_that_of_torchvision(mode: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        width, height, size = random.integers(1, 120, 3).tolist()
        image = noise(width, height, seed=size).convert(mode)
        preprocess = Preprocess(size, [None, 1.0, 1.25, 2.0][random.integers(4)])
        found, expected = preprocess.crop(image), torchvision_crop(preprocess, image)
        assert torch.equal(found, expected), (width, height, preprocess)
        assert found.dtype == expected.dtype


def test_a_stage_does_not_import_torchvision() -> None:
    code = "import sys, stages.train; assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    subprocess.run((sys.executable, "-c", code), check=True, timeout=120)


@pytest.mark.parametrize("mean", [CLIP_MEAN, (0.5, 0.4, 0.3)])
def test_normalising_a_batch_is_what_torchvision_does_to_each_image(mean: tuple[float, float, float]) -> None:
    preprocess = Preprocess(16, mean=mean)
    pixels = torch.stack([preprocess.crop(noise(40, 30, seed)) for seed in range(3)])
    floats = [transforms.to_tensor(transforms.to_pil_image(image)) for image in pixels]
    expected = torch.stack([transforms.normalize(image, list(mean), list(CLIP_STD)) for image in floats])
    torch.testing.assert_close(preprocess.normalise(pixels), expected, rtol=0, atol=1e-6)


def test_a_palette_file_becomes_rgb_after_the_crop() -> None:
    """Like the original code, it is resized by nearest index, unlike an RGB image."""
    palette = noise(64, 64).quantize(16)
    ours = Preprocess(16)(palette)
    nearest = transforms.to_tensor(palette.resize((16, 16), Image.Resampling.NEAREST).convert("RGB"))
    assert torch.equal(ours, transforms.normalize(nearest, list(CLIP_MEAN), list(CLIP_STD)))
    assert not torch.allclose(ours, Preprocess(16)(palette.convert("RGB")), atol=0.1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "HSV", "LAB"])
@pytest.mark.parametrize("size", [(40, 40), (40, 90)])
def test_images_that_are_not_rgb_are_converted(mode: str, size: tuple[int, int]) -> None:
    """The images are preprocessed with and without padding."""
    wide = Image.fromarray(np.full(size[::-1], 300, dtype=np.uint16))
    image = wide if mode == "I;16" else noise(*size).convert(mode)
    pixels = Preprocess(32)(image)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype is torch.float32
    assert torch.isfinite(pixels).all()


def test_settings_describe_themselves() -> None:
    """Every setting is in what a bank's manifest hashes."""
    base = Preprocess(32)
    assert base.describe() == {"size": 32, "target_ratio": 1.25, "mean": CLIP_MEAN, "std": CLIP_STD}
    others = [Preprocess(64), Preprocess(32, None), Preprocess(32, mean=(0, 0, 0)), Preprocess(32, std=(1, 1, 1))]
    assert all(other.describe() != base.describe() for other in others)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(tmp_path: Path, workers: int) -> None:
    """Seven images in batches of three: 3, 3, 1, whatever process decoded them."""
    paths = [draw(tmp_path / f"{i}.png", i) for i in range(7)]
    batches = list(image_batches(paths, Preprocess(16), 3, workers))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    expected = torch.stack([Preprocess(16)(open_image(path)) for path in paths])
    assert torch.equal(torch.cat(batches), expected)
    pixels = ImageFiles(paths, Preprocess(16))[4]
    assert pixels.dtype is torch.uint8
    assert torch.equal(Preprocess(16).normalise(pixels), expected[4])


def damage(path: Path, how: str) -> None:
    content = draw(path, 5, (64, 64)).read_bytes()
    if how == "absent":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"<html>not found</html>"}[how])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("how", ["absent", "cut", "empty", "text"])
def test_a_broken_image_is_one_line_that_names_it(tmp_path: Path, suffix: str, how: str) -> None:
    assert_one_line(tmp_path, suffix, how, workers=0)


def assert_one_line(tmp_path: Path, suffix: str, how: str, workers: int) -> None:
    good, bad = draw(tmp_path / "good.png", 1), tmp_path / f"bad{suffix}"
    damage(bad, how)
    with pytest.raises(InputError) as raised:
        list(image_batches([good, bad], Preprocess(16), 1, workers))
    message = str(raised.value)
    assert message.startswith(f"{bad}: ")
    assert "\n" not in message
    assert "Traceback" not in message
    assert ("no such image" if how == "absent" else "cannot be decoded") in message


def test_a_worker_that_meets_a_broken_image(tmp_path: Path) -> None:
    """Torch wraps its error in a traceback; what arrives is the one line."""
    assert_one_line(tmp_path, ".png", "cut", workers=1)


def test_the_workers_end_with_the_error(tmp_path: Path) -> None:
    """Without the collector, because torch waits 5 seconds for each worker of a loader that it finds."""
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(8)]
    paths[1].write_text("no image", encoding="ascii")
    gc.collect()
    gc.disable()
    before = set(multiprocessing.active_children())
    try:
        with pytest.raises(InputError, match=r"1\.png: cannot be decoded"):
            list(image_batches(paths, Preprocess(16), 2, 2))
        assert set(multiprocessing.active_children()) <= before
    finally:
        gc.enable()


class Deadly(Preprocess):
    """Ends the process that calls it, as the kernel does when memory is short."""

    def crop(self, image: Image.Image) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_is_killed_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"was lost \(.*--shm-size.*machine\.workers: 0") as raised:
        list(image_batches([draw(tmp_path / "a.png", 1)], Deadly(16), 1, 1))
    assert "\n" not in str(raised.value)


_LIMITS_ITS_WORKERS = """
import os, resource, sys
from pathlib import Path
from spn4cir.images.decoding import image_fault
from spn4cir.images.preprocess import Preprocess, image_batches
from spn4cir.images.processes import map_in_processes

def limit():
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (100 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))

os.register_at_fork(after_in_child=limit)
path = Path(sys.argv[1])
for use in (
    lambda: list(image_batches([path], Preprocess(16), 1, 1)),
    lambda: list(map_in_processes(image_fault, [path], 1, "image")),
):
    try:
        print("used", use())
    except MemoryError as error:
        print(error)
"""


def test_a_worker_without_memory_does_not_call_an_image_broken(tmp_path: Path) -> None:
    """The limit leaves room for the worker, and not for the 200 MB of the image."""
    path = tmp_path / "large.png"
    Image.new("RGB", (8_000, 8_000)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITS_ITS_WORKERS, path], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [f"{path}: no memory to decode it"] * 2, done.stderr


_KILLS_ITS_WORKERS = """
import multiprocessing, sys, time
from pathlib import Path
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess, image_batches

def use(_):
    for worker in multiprocessing.active_children():
        worker.kill()
    time.sleep(0.1)

try:
    list(map(use, image_batches([*map(Path, sys.argv[1:])], Preprocess(16), 1, 1)))
except InputError as error:
    print(error)
"""


def test_a_worker_that_is_killed_while_a_batch_is_used_is_one_line_too(tmp_path: Path) -> None:
    """torch raises the error in whatever the main thread runs at this moment: here, in a program of its own."""
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(8)]
    done = subprocess.run(
        [sys.executable, "-c", _KILLS_ITS_WORKERS, *paths], capture_output=True, text=True, timeout=120, check=True
    )
    assert re.fullmatch(r".*was lost \(.*\n", done.stdout)


@pytest.mark.parametrize(
    "said",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n"
        "RuntimeError: unable to write to file </torch_12_34_0>: No space left on device (28)",
    ],
)
def test_too_little_shared_memory_is_one_line(said: str) -> None:
    with pytest.raises(InputError, match=r"--shm-size") as raised, worker_errors():
        raise RuntimeError(said)
    assert "\n" not in str(raised.value)


def test_other_errors_of_a_worker_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="stack expects each tensor"), worker_errors():
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nstack expects each tensor")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".webp", ".avif"])
def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path, suffix: str) -> None:
    """Pillow knows a file by its bytes: a .jpg of a shop may be an AVIF, whose decoder has errors of its own."""
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / f"a{suffix}"
    noise(16, 16).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = int(random.integers(256))
        path.write_bytes(damaged)
        with suppress(InputError):
            open_image(path)


def test_interpolation_is_bicubic() -> None:
    """A bilinear resize would be another image."""
    ours = Preprocess(16)(noise(64, 64))
    bilinear = transforms.to_tensor(transforms.resize(noise(64, 64), [16], InterpolationMode.BILINEAR))
    assert not torch.allclose(ours, transforms.normalize(bilinear, list(CLIP_MEAN), list(CLIP_STD)), atol=0.05)


def test_the_collector_leaves_existing_objects_alone_while_batches_are_read() -> None:
    """Forked processes would copy the pages of all objects that it looks at."""
    frozen = [gc.get_freeze_count() for _ in read_ahead([1, 2])]
    assert min(frozen) > gc.get_freeze_count()
