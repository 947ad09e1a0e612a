"""Members of tars are read as files are, and a tar that is not whole is one line."""

import hashlib
import os
import tarfile
from contextlib import suppress
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spn4cir.datasets.records import present_images
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image, pixel_digest
from spn4cir.images.preprocess import Preprocess, image_batches
from spn4cir.images.reading import content_hash, is_there, read_bytes
from spn4cir.images.tars import member_names
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import make_captions
from spn4cir.types import CaptionedImage
from tests.helpers.layouts import draw
from tests.helpers.pools import write_tar
from tests.unit.test_captions import PROMPT, FakeCaptioner, unloadable

END = 2 * tarfile.BLOCKSIZE


@pytest.fixture
def plain(tmp_path: Path) -> list[Path]:
    """Seven images in a folder."""
    return [draw(tmp_path / "plain" / f"{number}.png", number) for number in range(7)]


@pytest.fixture
def tar(tmp_path: Path, plain: list[Path]) -> Path:
    """Returns a tar of the images, the last one first."""
    return write_tar(tmp_path / "00000.tar", plain[::-1])


@pytest.fixture
def inside(tar: Path, plain: list[Path]) -> list[Path]:
    """The paths into the tar, in the order of the folder."""
    return [tar / path.name for path in plain]


def ends(tar: Path) -> list[int]:
    """Returns the end of each member's padded bytes."""
    with tarfile.open(tar) as opened:
        return [m.offset_data + -(-m.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for m in opened]


def test_members_have_the_bytes_the_hash_and_the_pixels_of_the_files(plain: list[Path], inside: list[Path]) -> None:
    for file, member in zip(plain, inside, strict=True):
        assert read_bytes(member) == read_bytes(file) == file.read_bytes()
        assert content_hash(member) == content_hash(file) == hashlib.sha256(file.read_bytes()).hexdigest()
        assert is_there(member)
        assert is_there(file)
        assert pixel_digest(member) == pixel_digest(file)
        assert open_image(member).mode == open_image(file).mode == "RGB"


def test_names_come_in_the_order_of_the_tar(tar: Path, plain: list[Path]) -> None:
    assert member_names(tar) == [path.name for path in plain[::-1]]


def test_an_empty_tar_holds_nothing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [])
    assert member_names(path) == []
    assert not is_there(path / "0.jpg")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_links_within_a_tar(tmp_path: Path, form: int) -> None:
    """A folder and a link are no files; a leading ./ is no part of a name."""
    long = "é" * 40 + ".png"
    image = draw(tmp_path / "a.png", 1).read_bytes()
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        for name, kind in (("./in", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        for name in ("./in/a.png", long):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            tar.addfile(info, BytesIO(image))
    assert member_names(tmp_path / "x.tar") == ["in/a.png", long]
    assert read_bytes(tmp_path / "x.tar" / "in" / "a.png") == read_bytes(tmp_path / "x.tar" / long) == image
    assert not is_there(tmp_path / "x.tar" / "link")


@pytest.mark.parametrize("name", ["00000.tar/9.png", "00000.tar/0", "00000.tar/0.png.extra", "9.tar/0.png", "plain/9"])
def test_what_is_neither_file_nor_member_is_not_there(tmp_path: Path, tar: Path, name: str) -> None:
    assert not is_there(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / name)
    with pytest.raises(InputError, match=r"no such image; check the data folder, or run with missing: skip"):
        open_image(tmp_path / name)


def test_a_path_through_a_plain_file_is_not_there(plain: list[Path]) -> None:
    assert not is_there(plain[0] / "0.png")
    with pytest.raises(InputError, match=r"0\.png/0\.png: no such image"):
        open_image(plain[0] / "0.png")


def test_plain_files_go_straight_to_the_decoder(plain: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No bytes are read beforehand and no tar is looked for."""
    monkeypatch.setattr("spn4cir.images.decoding.read_bytes", lambda path: pytest.fail("read before it was decoded"))
    monkeypatch.setattr("spn4cir.images.tars.find_member", lambda path: pytest.fail("looked for a tar"))
    assert open_image(plain[0]).size == (32, 32)
    assert is_there(plain[0])
    assert content_hash(plain[0])


@pytest.mark.parametrize("whole", [0, 3, 6])
@pytest.mark.parametrize("cut", ["in a header", "in the bytes", "in the padding"])
def test_a_tar_cut_in_a_member_is_refused_with_the_count(tar: Path, whole: int, cut: str) -> None:
    with tarfile.open(tar) as opened:
        info = opened.getmembers()[whole]
    size = {"in a header": -100, "in the bytes": info.size // 2, "in the padding": info.size}[cut]
    counted = whole + (cut == "in the padding")
    os.truncate(tar, info.offset_data + size)
    for use in (member_names, lambda path: is_there(path / "0.png"), lambda path: open_image(path / "6.png")):
        with pytest.raises(
            InputError, match=rf"00000\.tar: is cut short .* after {counted} whole files; download this"
        ):
            use(tar)


@pytest.mark.parametrize("left", [0, tarfile.BLOCKSIZE, END - 1])
def test_a_tar_cut_between_two_members_is_refused(tar: Path, left: int) -> None:
    """It lacks the two blocks of zeros at its end; all its members are complete."""
    os.truncate(tar, ends(tar)[-1] + left)
    with pytest.raises(InputError, match=r"00000\.tar: is cut short or damaged after 7 whole files; download"):
        member_names(tar)
    os.truncate(tar, ends(tar)[3])
    with pytest.raises(InputError, match=r"after 4 whole files"):
        member_names(tar)


def test_room_that_a_broken_download_left_is_no_end(tar: Path) -> None:
    """A downloader may reserve the whole length at once: zeros follow the last file that came, as at a tar's end."""
    content = tar.read_bytes()[: ends(tar)[3]]
    tar.write_bytes(content + bytes(2 << 20))
    with pytest.raises(InputError, match=r"00000\.tar: is cut short or damaged after 4 whole files"):
        member_names(tar)
    tar.write_bytes(content + bytes(tarfile.RECORDSIZE))
    assert len(member_names(tar)) == 4


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"x" * 5000])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"0\.tar: is cut short or damaged after 0 whole files"):
        member_names(tmp_path / "0.tar")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused_whatever_its_name(tmp_path: Path, plain: list[Path], kind: str) -> None:
    with tarfile.open(tmp_path / "0.tar", f"w:{kind}") as tar:
        tar.add(plain[0], "0.png")
    with pytest.raises(InputError, match=r"0\.tar: is compressed, .*; decompress it first"):
        is_there(tmp_path / "0.tar" / "0.png")


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("plain.png")
        info.pax_headers = {"path": "a\0b.png"}
        tar.addfile(info)
    with pytest.raises(InputError, match=r"0\.tar: the name 'a\\x00b\.png' contains a NUL; write the tar with"):
        member_names(tmp_path / "0.tar")


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path, plain: list[Path]) -> None:
    write_tar(tmp_path / "0.tar", [plain[0], plain[1], plain[0]])
    with pytest.raises(InputError, match=r"0\.tar: contains '0\.png' twice; write the tar again"):
        member_names(tmp_path / "0.tar")


def test_damaged_tars_never_end_in_a_traceback(tmp_path: Path, tar: Path) -> None:
    whole = tar.read_bytes()
    headers = [0, *ends(tar)]
    random = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[int(random.choice(headers) + random.integers(512))] = int(random.integers(256))
        path = tmp_path / f"{number}.tar"
        path.write_bytes(damaged)
        with suppress(InputError):
            member_names(path)
            refused -= 1
        refused += 1
    assert refused > 150


def test_a_tar_that_was_written_again_is_read_again(tar: Path, inside: list[Path], plain: list[Path]) -> None:
    before = read_bytes(inside[0])
    written = tar.stat().st_mtime_ns
    write_tar(tar, [draw(plain[0], 99), *plain[1:]])
    os.utime(tar, ns=(written + 1, written + 1))  # not in one tick of the file system's clock
    assert read_bytes(inside[0]) == plain[0].read_bytes() != before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_reads_tars_as_it_reads_folders(plain: list[Path], inside: list[Path], workers: int) -> None:
    expected = torch.cat(list(image_batches(plain, Preprocess(16), 3, 0)))
    assert torch.equal(torch.cat(list(image_batches(inside, Preprocess(16), 3, workers))), expected)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_read_at_the_same_time_with_or_without_an_index(
    plain: list[Path], inside: list[Path], start: str
) -> None:
    assert is_there(inside[0])
    with get_context(start).Pool(2) as pool:
        assert pool.map(read_bytes, inside * 10, chunksize=1) == [path.read_bytes() for path in plain] * 10


def captioned(paths: list[Path]) -> list[CaptionedImage]:
    return [CaptionedImage(path.stem, path, "image") for path in paths]


def make(images: list[CaptionedImage], captioner: FakeCaptioner, store: Path) -> list[dict[str, str]]:
    load = captioner.load if isinstance(captioner, FakeCaptioner) else captioner
    return make_captions(images, 10, PROMPT, load, CaptionStore(store), batch_size=2, max_new_tokens=8, workers=2)


def test_captions_of_members_are_resumed_and_are_those_of_the_files(
    tmp_path: Path, plain: list[Path], inside: list[Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(captioned(inside), FakeCaptioner(dies_at=2), tmp_path / "store")
    resumed = FakeCaptioner()
    records = make(captioned(inside), resumed, tmp_path / "store")
    assert len(resumed.batches) == 4 - 2
    assert [record["image_path"] for record in records] == [str(path) for path in inside]
    unpacked = make(captioned(plain), unloadable, tmp_path / "store")
    assert [record["caption"] for record in unpacked] == [record["caption"] for record in records]


def test_members_count_as_on_disk(inside: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = captioned([*inside, tmp_path / "00000.tar" / "9.png"])
    assert present_images(images, "skip", tmp_path) == tuple(images[:-1])
    assert "left out 1 of 8 images" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"1 of 8 images are not on disk, the first is .*00000\.tar/9\.png"):
        present_images(images, "error", tmp_path)


def test_a_broken_image_in_a_tar_is_named(tmp_path: Path, plain: list[Path]) -> None:
    plain[1].write_bytes(plain[1].read_bytes()[:60])
    write_tar(tmp_path / "0.tar", plain)
    with pytest.raises(InputError, match=r"0\.tar/1\.png: cannot be decoded"):
        open_image(tmp_path / "0.tar" / "1.png")
    assert isinstance(open_image(tmp_path / "0.tar" / "0.png"), Image.Image)


def test_an_absolute_name_is_that_of_a_member_and_of_no_other_file(tmp_path: Path) -> None:
    """Joined to the path of the tar, an absolute name would be a file of this machine."""
    draw(tmp_path / "secret.png", 1)
    draw(tmp_path / "inside.png", 2)
    with tarfile.open(tmp_path / "0.tar", "w") as made:
        info = made.gettarinfo(tmp_path / "inside.png")
        info.name = str(tmp_path / "secret.png")
        made.addfile(info, BytesIO((tmp_path / "inside.png").read_bytes()))
    (name,) = member_names(tmp_path / "0.tar")
    assert (tmp_path / "0.tar" / name).is_relative_to(tmp_path / "0.tar")
    assert read_bytes(tmp_path / "0.tar" / name) == (tmp_path / "inside.png").read_bytes()
