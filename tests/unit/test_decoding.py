"""The one decoder: what it makes of each mode and format, and what it refuses."""

import errno
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spn4cir.datasets import open_layout
from spn4cir.errors import InputError
from spn4cir.images import decoding
from spn4cir.images.decoding import eight_bit, image_fault, open_image, open_rgb, to_rgb
from spn4cir.images.preprocess import Preprocess
from spn4cir.positives.dedup import deduplicate
from spn4cir.projects.check import check_data
from spn4cir.types import Gallery
from tests.helpers.layouts import write_fashioniq

RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
ENDINGS = {"PNG": ".png", "TIFF": ".tif", "PPM": ".pgm", "JPEG2000": ".jp2"}


def noise(size: tuple[int, int] = (24, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def tiff(bits: int, photometric: int, data: bytes, width: int, height: int) -> bytes:
    """A grey TIFF of one strip, which Pillow does not write at 12 bits or counted from white."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: height, 279: len(data)}
    tags[273] = 14 + 12 * len(tags)
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + bytes(4) + data


@pytest.mark.parametrize("kind", ENDINGS)
def test_16_bit_grey_becomes_the_high_byte(tmp_path: Path, kind: str) -> None:
    """The whole range, in every format that Pillow reads it from; JPEG 2000 is written without loss."""
    image = open_image(saved(Image.fromarray(RAMP), tmp_path / f"a{ENDINGS[kind]}"))
    assert image.mode == "L"
    assert (np.asarray(image) == RAMP >> 8).all()
    assert (np.asarray(image).min(), np.asarray(image).max()) == (0, 255)


def test_8_bit_values_that_were_widened_come_back(tmp_path: Path) -> None:
    """The values were widened by repeating the byte, or by a shift."""
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for factor in (257, 256):
        image = open_image(saved(Image.fromarray(values * np.uint16(factor)), tmp_path / "a.png"))
        assert (np.asarray(image) == values).all()


@pytest.mark.parametrize("order", ["I;16", "I;16L", "I;16B"])
def test_byte_orders_are_one(order: str) -> None:
    content = RAMP.astype(">u2" if order == "I;16B" else "<u2").tobytes()
    assert (np.asarray(eight_bit(Image.frombytes(order, (16, 16), content))) == RAMP >> 8).all()


@pytest.mark.parametrize(("kind", "read"), [("PNG", True), ("PPM", True), ("TIFF", False), (None, False)])
def test_integers_are_read_where_the_format_has_at_most_16_bits(kind: str | None, read: bool) -> None:
    """Some versions of Pillow open a 16-bit PNG as `I`."""
    image = Image.fromarray(RAMP.astype(np.int32))
    image.format = kind
    if read:
        assert (np.asarray(eight_bit(image)) == RAMP >> 8).all()
    else:
        with pytest.raises(ValueError, match="mode I, of no fixed range: save it with 8 or 16 bits a channel"):
            eight_bit(image)


def test_16_bit_colour_and_grey_with_alpha_are_high_bytes_too(tmp_path: Path) -> None:
    """Pillow reads them so: grey follows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    for colour, channels, expected in ((2, 3, (0x01, 0x7F, 0xFF)), (4, 2, (0x01, 0x01, 0x01))):
        values = np.array([0x0102, 0x7FFF, 0xFF00][:channels], dtype=">u2")
        header = struct.pack(">IIBBBBB", 1, 1, 16, colour, 0, 0, 0)
        png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes())) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
        assert open_rgb(tmp_path / "a.png").getpixel((0, 0)) == expected


@pytest.mark.parametrize(("photometric", "expected"), [(1, [0, 255, 1, 17]), (0, [255, 0, 254, 238])])
def test_a_tiff_that_counts_from_white_is_inverted(tmp_path: Path, photometric: int, expected: list[int]) -> None:
    """At 16 bits as Pillow does at 8."""
    wide = np.array([0, 65535, 256, 4369], dtype="<u2")
    for bits, data in ((16, wide.tobytes()), (8, bytes([0, 255, 1, 17]))):
        (tmp_path / "a.tif").write_bytes(tiff(bits, photometric, data, 2, 2))
        assert np.asarray(open_image(tmp_path / "a.tif")).ravel().tolist() == expected


def test_a_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(12, 1, bytes([0xFF, 0xF0, 0x00]), 2, 1))
    assert np.asarray(open_image(tmp_path / "a.tif")).tolist() == [[255, 0]]


@pytest.mark.parametrize(("mode", "kind"), [("I", np.int32), ("F", np.float32)])
def test_a_mode_of_no_fixed_range_is_refused_by_name(tmp_path: Path, mode: str, kind: type) -> None:
    path = saved(Image.fromarray(RAMP.astype(kind)), tmp_path / "a.tif")
    reason = f"its pixels are of mode {mode}, of no fixed range: save it with 8 or 16 bits a channel"
    assert image_fault(path) == f"cannot be decoded ({reason})"
    with pytest.raises(InputError) as raised:
        open_image(path)
    assert str(raised.value).startswith(f"{path}: cannot be decoded ({reason}); ")


def test_a_file_that_may_not_be_read_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Image.Image:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(decoding, "_opened", refuse)
    expected = "cannot be read (Permission denied); give this user the right to read it"
    with pytest.raises(InputError) as raised:
        open_image(tmp_path / "a.png")
    assert str(raised.value) == f"{tmp_path / 'a.png'}: {expected}"
    assert image_fault(tmp_path / "a.png") == expected


def test_a_refused_mode_is_broken_in_the_check(tmp_path: Path) -> None:
    root = write_fashioniq(tmp_path)
    Image.fromarray(RAMP.astype(np.float32)).save(root / "images" / "dress-val-0.png", format="TIFF")
    (fault,) = check_data(open_layout("fashioniq", root, "error"), 0).broken
    assert fault.name == "dress-val-0"
    assert "of mode F, of no fixed range" in fault.reason


def test_different_16_bit_images_stay_different(tmp_path: Path) -> None:
    """The same number is kept as of these images at 8 bits."""
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(9)]
    images.append(images[0])
    wide = [
        saved(Image.fromarray(each.astype(np.uint16) * 257), tmp_path / f"w{i}.png") for i, each in enumerate(images)
    ]
    plain = [saved(Image.fromarray(each), tmp_path / f"p{i}.png") for i, each in enumerate(images)]
    for paths in (wide, plain, wide + plain):
        names = tuple(path.stem for path in paths)
        assert len(deduplicate(Gallery(names, tuple(paths)), 0).gallery) == 9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_8_bit_modes_are_as_pillow_opens_them(tmp_path: Path, mode: str) -> None:
    """Bit for bit: the mode is kept, and the conversion to RGB is Pillow's."""
    path = saved(noise().convert(mode), tmp_path / f"a{'.tif' if mode == 'CMYK' else '.png'}")
    bare = Image.open(path)
    bare.load()
    image = open_image(path)
    assert image.mode == bare.mode == mode
    assert image.tobytes() == bare.tobytes()
    assert open_rgb(path).tobytes() == bare.convert("RGB").tobytes()


def test_transparency_is_dropped_without_blending(tmp_path: Path) -> None:
    """The images are RGBA, LA and a palette with a transparent entry."""
    colour = noise()
    clear = colour.copy()
    clear.putalpha(0)
    assert to_rgb(clear).tobytes() == colour.tobytes()
    grey = colour.convert("L")
    faint = grey.copy()
    faint.putalpha(7)
    assert to_rgb(faint).tobytes() == grey.convert("RGB").tobytes()
    palette = colour.quantize(8)
    path = saved(palette, tmp_path / "a.png", transparency=0)
    assert open_rgb(path).tobytes() == palette.convert("RGB").tobytes()


def test_the_orientation_of_exif_is_not_applied(tmp_path: Path) -> None:
    """As in the original code: 6 would turn the image by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(saved(noise((24, 20)), tmp_path / "a.jpg", exif=exif)).size == (24, 20)


@pytest.mark.parametrize("ending", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#0000ff")]
    path = saved(frames[0], tmp_path / f"a{ending}", save_all=True, append_images=frames[1:])
    red, green, blue = open_rgb(path).getpixel((4, 4))
    assert red > 250
    assert max(green, blue) < 5


def test_rgb_is_given_back_itself() -> None:
    image = noise()
    assert to_rgb(image) is image


def test_the_network_sees_no_white_in_the_place_of_16_bits() -> None:
    """An image that a program made and did not save."""
    pixels = Preprocess(8).crop(Image.fromarray(np.full((8, 8), 300 * 64, dtype=np.uint16)))
    assert (pixels == 300 * 64 >> 8).all()


def test_pillow_does_not_warn_of_a_file_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    Image.new("RGB", (32, 32)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    code = (
        f"from pathlib import Path; from spn4cir.images.decoding import image_fault as f; print(f(Path({str(path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("cannot be decoded (no known image format)\n", "")


_MEETS_AN_IMPOSSIBLE_SIZE = """
import re, sys
from pathlib import Path
from spn4cir.images import decoding

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

def no_memory(path):
    raise MemoryError

decoding._opened = no_memory
before = peak()
print(decoding.image_fault(Path(sys.argv[1])))
print(peak() - before)
"""


def test_a_damaged_image_takes_no_memory_although_there_is_enough(tmp_path: Path) -> None:
    """Some damaged files state sizes that no machine has memory for."""
    path = saved(noise(), tmp_path / "a.png")
    done = subprocess.run([sys.executable, "-c", _MEETS_AN_IMPOSSIBLE_SIZE, path], capture_output=True, text=True)
    fault, megabytes = done.stdout.splitlines()
    assert fault == "cannot be decoded (MemoryError)"
    assert int(megabytes) < 50
