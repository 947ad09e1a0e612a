"""An index that is being made: a killed run continues, and gives the index of a run that was not interrupted."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spn4cir.search.encode
from spn4cir import Retriever
from spn4cir.cli import app
from spn4cir.errors import InputError
from spn4cir.images.workers import Workers
from spn4cir.search import unfinished, unfinished_file
from spn4cir.search.unfinished import unfinished_folder, unread_batches
from spn4cir.search.unfinished_file import RECORDS, UnfinishedFile
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.clusters import OneProcessCluster
from tests.helpers.layouts import draw

# Nine batches of 32 and one of 12.
IMAGES = 300
FILES = ("vectors.faiss", "pictures.parquet")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


@pytest.fixture(scope="module")
def network(weights) -> Retriever:
    return Retriever.from_checkpoint(weights, workers=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Images with copies in the same batch, in the next one and far away."""
    folder = tmp_path_factory.mktemp("drawn")
    for number in range(IMAGES):
        draw(folder / f"{number:03}.png", {40: 39, 64: 63, 290: 5}.get(number, number), (8, 8))
    return folder


@pytest.fixture
def gallery(tmp_path, drawn) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "gallery"))


@pytest.fixture
def work(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def make(network) -> Callable[..., Retriever]:
    """Makes a retriever of its own over the shared network."""

    def made(workers: Workers = 0) -> Retriever:
        return Retriever(network.composer, network.weights, torch.device("cpu"), workers)

    return made


class Killed(BaseException):
    """Raised where a process would end."""


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many images each batch encoded; after `kill.after` batches, the next one ends the run."""
    counts: list[int] = []
    encode = spn4cir.search.encode.encode_pixels

    def counting(composer: Any, pixels: torch.Tensor, device: torch.device) -> Any:
        if len(counts) == _stop[0]:
            raise Killed
        counts.append(len(pixels))
        return encode(composer, pixels, device)

    _stop[0] = -1
    monkeypatch.setattr("spn4cir.search.encode.encode_pixels", counting)
    return counts


_stop = [-1]


def interrupted(retriever: Retriever, batches: int, counts: list[int], *arguments: Any, **options: Any) -> None:
    """Indexes until that many batches are encoded."""
    counts.clear()
    _stop[0] = batches
    with pytest.raises(Killed):
        retriever.index(*arguments, **options)
    _stop[0] = -1
    counts.clear()


def content(retriever: Retriever, folder: Path) -> dict[str, bytes]:
    """The files of an index, which is saved."""
    retriever.save(folder, weights=False)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("kind", ["exact", "ivf-pq"])
@pytest.mark.parametrize("batches", [0, 1, 4, 9])
def test_a_run_that_continues_gives_an_equal_index(gallery, work, tmp_path, make, encoded, capsys, batches, kind):
    interrupted(make(), batches, encoded, gallery, kind=kind, work=work)
    capsys.readouterr()
    retriever = make().index(gallery, kind=kind, work=work)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == ([f"index: resumed after {32 * batches} of 300 images"] if batches else lines[:1])
    assert sum(encoded) == sum([32, 31, 31, 32, 32, 32, 32, 32, 32, 11][batches:])
    assert len(retriever.changes.added) == IMAGES
    retriever.save(tmp_path / "one", weights=False)
    assert not work.exists()
    make().index(gallery, kind=kind).save(tmp_path / "two", weights=False)
    for path in (tmp_path / "two").rglob("*"):
        if path.is_file() and path.name not in ("lists.faiss", "index.json"):
            assert (tmp_path / "one" / path.relative_to(tmp_path / "two")).read_bytes() == path.read_bytes()


def test_a_run_that_is_killed_again_and_again(gallery, work, tmp_path, make, encoded):
    for batches in (2, 0, 1, 3):
        interrupted(make(), batches, encoded, gallery, work=work)
    resumed = make().index(gallery, work=work)
    assert encoded == [32, 32, 32, 11]
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_a_complete_run_whose_index_was_not_written_encodes_nothing(gallery, work, tmp_path, make, encoded):
    make().index(gallery, work=work)
    encoded.clear()
    resumed = make().index(gallery, work=work)
    assert encoded == []
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_images_that_change_between_are_read_again_and_removed_ones_are_ignored(gallery, work, tmp_path, make, encoded):
    interrupted(make(), 4, encoded, gallery, work=work)
    stamp = (gallery / "003.png").stat()
    draw(gallery / "003.png", 1003, (8, 8))  # another content under an equal time and, maybe, size
    os.utime(gallery / "003.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    (gallery / "010.png").unlink()
    (gallery / "200.png").unlink()
    draw(gallery / "000a.png", 2000, (8, 8))
    resumed = make().index(gallery, work=work)
    assert sum(encoded) == 299 - 126 - 1  # 290.png is a copy
    fresh = make().index(gallery)
    assert resumed.names == fresh.names
    assert "010.png" not in resumed
    for name in ("003.png", "000a.png", "100.png", "250.png"):
        query = [(gallery / name, None)]
        (one,), (two,) = (each.search_many(query, 5, False) for each in (resumed, fresh))
        assert [hit.name for hit in one] == [hit.name for hit in two]
        assert np.allclose([hit.score for hit in one], [hit.score for hit in two], atol=1e-5)
    resumed.save(tmp_path / "one")
    assert len(Retriever.load(tmp_path / "one", workers=0)) == IMAGES - 1  # every vector has an image


def test_an_image_that_changes_there_and_back(gallery, work, tmp_path, make, encoded):
    make().index(gallery, work=work)
    first, stamp = (gallery / "003.png").read_bytes(), (gallery / "003.png").stat()
    draw(gallery / "003.png", 1003, (8, 8))
    encoded.clear()
    make().index(gallery, work=work)
    assert encoded == [1]
    (gallery / "003.png").write_bytes(first)
    os.utime(gallery / "003.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    resumed = make().index(gallery, work=work)
    assert encoded == [1]
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_images_of_equal_size_and_time_are_told_apart_by_their_path(gallery, work, tmp_path, make, encoded):
    for path in sorted(gallery.iterdir()):
        draw(path.with_suffix(".bmp"), int(path.stem), (8, 8))
        path.unlink()
        os.utime(path.with_suffix(".bmp"), ns=(1, 1))
    interrupted(make(), 4, encoded, gallery, work=work)
    resumed = make().index(gallery, work=work)
    assert sum(encoded) == 300 - 128
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_an_update_of_an_index_continues(gallery, work, tmp_path, make, encoded):
    extra = tmp_path / "gallery" / "zz"
    make().index(gallery).save(tmp_path / "index", weights=False)
    for number in range(IMAGES):  # ten of them are copies of indexed images
        draw(extra / f"{number:03}.png", number if number < 10 else 5000 + number, (8, 8))
    (gallery / "000.png").unlink()
    interrupted(make().resume(tmp_path / "index"), 3, encoded, gallery, work=work)
    resumed = make().resume(tmp_path / "index").index(gallery, work=work)
    assert encoded == [32] * 6 + [12]
    assert (len(resumed.changes.added), resumed.changes.removed) == (IMAGES, ("000.png",))
    other = make().resume(tmp_path / "index").index(gallery)
    assert content(resumed, tmp_path / "one") == content(other, tmp_path / "two")


def test_an_image_whose_copy_was_in_a_lost_index_is_read_again(gallery, work, tmp_path, make, encoded):
    """Its record has no targets, as the index had them."""
    retriever = make().index([gallery / "000.png", gallery / "001.png"])
    interrupted(retriever, 3, encoded, gallery, work=work)
    resumed = make().index(gallery, work=work)
    assert len(resumed) == IMAGES
    resumed.save(tmp_path / "one")
    assert len(Retriever.load(tmp_path / "one", workers=0)) == IMAGES


def test_a_crop_that_the_index_got_meanwhile_keeps_its_vector(gallery, work, tmp_path, make, encoded):
    interrupted(make(), 4, encoded, gallery, work=work)
    resumed = make().index([gallery / "039.png", gallery / "001.png"])  # 040.png is a copy
    resumed.index(gallery, work=work)
    resumed.save(tmp_path / "one")
    loaded = Retriever.load(tmp_path / "one", workers=0)  # each vector has an image
    assert len(loaded) == IMAGES
    first, copy = (loaded.image_index.table.get(name) for name in ("039.png", "040.png"))
    assert first.vector == copy.vector


def test_other_weights_begin_again(gallery, work, tmp_path, make, encoded, capsys):
    other = Retriever.from_checkpoint(write_checkpoint(tmp_path / "other.pt", seed=7), workers=0)
    interrupted(other, 4, encoded, gallery, work=work)
    capsys.readouterr()
    resumed = make().index(gallery, work=work)
    assert capsys.readouterr().out == f"index: {work}: has another image side; it is begun again\n"
    assert sum(encoded) == 297
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_another_precision_begins_again(gallery, work, make, encoded, capsys):
    interrupted(make(), 4, encoded, gallery, work=work)
    capsys.readouterr()
    make().index(gallery, kind="ivf-pq", work=work)
    assert capsys.readouterr().out.startswith(f"index: {work}: has another precision; it is begun again\n")
    assert sum(encoded) == 297


@pytest.mark.parametrize("key", ["format", "preprocessing", "head widths"])
def test_another_version_begins_again(gallery, work, make, encoded, capsys, key, monkeypatch):
    interrupted(make(), 4, encoded, gallery, work=work)
    place = work / RECORDS
    place.write_bytes(place.read_bytes().replace(f'"{key}"'.encode(), b'"other"', 1))
    capsys.readouterr()
    make().index(gallery, work=work)
    assert capsys.readouterr().out == f"index: {work}: has another {key}; it is begun again\n"
    assert sum(encoded) == 297


def test_a_broken_image_does_not_lose_the_others(gallery, work, tmp_path, make, encoded):
    (gallery / "070.png").write_bytes(b"no image")
    (gallery / "005.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 images cannot be decoded: 005.png, 070.png; .* The first: .*005.png"):
        make().index(gallery, work=work)
    assert sum(encoded) == 296
    encoded.clear()
    with pytest.raises(InputError, match="2 images cannot be decoded"):
        make().index(gallery, work=work)
    skipping = make().index(gallery, work=work, skip=True)
    assert (encoded, skipping.changes.skipped) == ([], ("005.png", "070.png"))
    assert content(skipping, tmp_path / "one") == content(make().index(gallery, skip=True), tmp_path / "two")


def test_broken_images_are_named_in_order(gallery, work, make, encoded):
    """The earlier one is read last, because the others of its batch are kept."""
    for name in ("005.png", "200.png"):
        (gallery / name).write_bytes(b"no image")
    interrupted(make(), 3, encoded, gallery, work=work)
    with pytest.raises(InputError, match=r"2 images cannot be decoded: 005.png, 200.png; .* The first: .*005.png"):
        make().index(gallery, work=work)


def test_a_mended_image_alone_is_encoded(gallery, work, make, encoded):
    (gallery / "070.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"070\.png"):
        make().index(gallery, work=work)
    draw(gallery / "070.png", 70, (8, 8))
    encoded.clear()
    assert len(make().index(gallery, work=work)) == IMAGES
    assert encoded == [1]


def test_nothing_is_kept_of_a_few_images(gallery, work, make, encoded):
    paths = sorted(gallery.iterdir())[:255]
    interrupted(make(), 4, encoded, paths, work=work)
    assert not work.exists()


def test_a_record_that_is_cut_anywhere_is_ignored(gallery, work, tmp_path, make, encoded):
    make().index(gallery, work=work)
    start = (work / RECORDS).stat().st_size
    draw(gallery / "003.png", 1003, (8, 8))
    make().index(gallery, work=work)
    whole = (work / RECORDS).read_bytes()
    assert record_sizes(work) == [*[32] * 9, 12, 1]
    for size in range(start, len(whole)):
        for more in (b"", bytes(len(whole) - size)):  # cut, or with zeros, as a power cut leaves it
            (work / RECORDS).write_bytes(whole[:size] + more)
            if whole[size:] != more:
                assert record_sizes(work) == [*[32] * 9, 12]
                assert (work / RECORDS).stat().st_size == start
    for size in range(whole.index(b"\n")):
        (work / RECORDS).write_bytes(whole[:size])
        unfinished_file.check_unfinished(work)
    (work / RECORDS).write_bytes(whole[:-1])
    encoded.clear()
    resumed = make().index(gallery, work=work)
    assert encoded == [1]
    assert len(resumed) == IMAGES


@pytest.mark.parametrize("left", [0, 7, 60])
def test_a_header_that_is_cut_begins_again(gallery, work, make, encoded, capsys, left):
    interrupted(make(), 2, encoded, gallery, work=work)
    (work / RECORDS).write_bytes((work / RECORDS).read_bytes()[:left])
    capsys.readouterr()
    make().index(gallery, work=work)
    assert capsys.readouterr().out == ""
    assert record_sizes(work) == [*[32] * 9, 12]


def test_a_record_that_is_damaged_ends_the_records(gallery, work, tmp_path, make, encoded):
    interrupted(make(), 5, encoded, gallery, work=work)
    damaged = bytearray((work / RECORDS).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (work / RECORDS).write_bytes(damaged)
    resumed = make().index(gallery, work=work)
    assert sum(encoded) == 297 - 63
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4)])
def test_targets_keep_their_shape(work, shape):
    """Those of BLIP-2 have an axis of tokens."""
    targets = np.arange(2 * np.prod(shape), dtype=np.float16).reshape(2, *shape)
    for number in range(2):
        file = UnfinishedFile(work, {"format": 1}, targets.dtype)
        assert len(list(file.records())) == number
        file.append(np.zeros(3, unfinished_file.IMAGE), bytes(range(64)), targets)
        file.close()
    file = UnfinishedFile(work, {"format": 1}, targets.dtype)
    for record in file.records():
        assert (len(record.images), record.crops, record.shape) == (3, bytes(range(64)), shape)
        assert np.array_equal(file.targets(record.offset, 2, shape), targets)
    file.close()


def record_sizes(work: Path) -> list[int]:
    """The numbers of images of the records, whose other content is not looked at."""
    header = (work / RECORDS).read_bytes().partition(b"\n")[0]
    settings = unfinished_file._parsed(header)
    file = UnfinishedFile(work, settings, np.dtype(settings["precision"]))
    try:
        return [len(record.images) for record in file.records()]
    finally:
        file.close()


def test_a_full_disk_is_one_error_and_keeps_the_records(gallery, work, tmp_path, make, encoded, monkeypatch):
    write, written = UnfinishedFile._write, []

    def fills(file: UnfinishedFile, content: bytes) -> None:
        written.append(content)
        if len(written) == 5:
            write(file, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedFile, "_write", fills)
        with pytest.raises(InputError, match=r"work: the disk is full .* the images before are kept: free some room"):
            make().index(gallery, work=work)
    assert record_sizes(work) == [32] * 3
    encoded.clear()
    resumed = make().index(gallery, work=work)
    assert sum(encoded) == 297 - 94
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_too_little_space_is_said_after_the_first_batch(gallery, work, make, encoded, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    with pytest.raises(InputError, match=r"work: needs 0 MB but the disk has 0 MB free; free some room, or write"):
        make().index(gallery, work=work)
    assert encoded == [32]


@pytest.mark.parametrize("name", ["notes.txt", RECORDS])
def test_a_folder_of_something_else_is_left_alone(gallery, work, make, encoded, name):
    work.mkdir()
    (work / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}.*not (part|a file) of an unfinished index; move it"):
        make().index(gallery, work=work)
    unfinished_file.remove_unfinished(work)
    assert ((work / name).read_text(), encoded) == ("mine", [])


def test_a_file_in_the_place_is_left_alone(gallery, work, make):
    work.write_text("mine")
    with pytest.raises(InputError, match="work: is not a folder"):
        make().index(gallery, work=work)
    assert work.read_text() == "mine"


def test_a_link_to_another_disk_is_followed(gallery, work, tmp_path, make, encoded):
    (tmp_path / "disk").mkdir()
    work.symlink_to(tmp_path / "disk")
    interrupted(make(), 4, encoded, gallery, work=work)
    assert (tmp_path / "disk" / RECORDS).exists()
    make().index(gallery, work=work).save(tmp_path / "one")
    assert not (tmp_path / "disk" / RECORDS).exists()


def test_two_runs_at_once_in_one_process(gallery, work, make, encoded, monkeypatch):
    refused: list[str] = []
    keep = unfinished.KeptImages.keep

    def meanwhile(*arguments: Any) -> None:
        if not refused:
            refused.append("at once")
            with pytest.raises(InputError, match="another index command writes to it"):
                make().index(gallery, work=work)
        keep(*arguments)

    monkeypatch.setattr(unfinished.KeptImages, "keep", meanwhile)
    assert len(make().index(gallery, work=work)) == IMAGES
    assert len(refused) == 1


def test_a_cluster_continues(gallery, work, tmp_path, make, encoded, monkeypatch, capsys):
    """First the reading is killed, then the encoding."""
    (gallery / "007.png").write_bytes(b"no image")
    read = OneProcessCluster.map_files

    def killed(*arguments: Any) -> Any:
        for number, each in enumerate(read(*arguments)):
            if number == 70:
                raise Killed
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(OneProcessCluster, "map_files", killed)
        with pytest.raises(Killed):
            make(OneProcessCluster()).index(gallery, skip=True, work=work)
    capsys.readouterr()
    interrupted(make(OneProcessCluster()), 3, encoded, gallery, skip=True, work=work)
    assert capsys.readouterr().out == "index: read: resumed after 63 of 300 images\n"
    resumed = make(OneProcessCluster()).index(gallery, skip=True, work=work)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["index: read: resumed after 299 of 300 images", "index: resumed after 96 of 300 images"]
    assert sum(encoded) == 296 - 31 - 31 - 31
    assert content(resumed, tmp_path / "one") == content(make().index(gallery, skip=True), tmp_path / "two")


@pytest.mark.parametrize("begun_there", [False, True])
def test_a_run_may_continue_elsewhere(gallery, work, tmp_path, make, encoded, begun_there):
    there, here = make(OneProcessCluster()), make()
    interrupted(there if begun_there else here, 3, encoded, gallery, work=work)
    resumed = (here if begun_there else there).index(gallery, work=work)
    assert sum(encoded) == 297 - 94
    assert content(resumed, tmp_path / "one") == content(make().index(gallery), tmp_path / "two")


def test_the_batches_to_read():
    unread = np.ones(10, bool)
    assert unread_batches(unread, 4) == [range(4), range(4, 8), range(8, 10)]
    unread[:4] = False
    assert unread_batches(unread, 4) == [range(4, 8), range(8, 10)]
    unread[[1, 2, 6]] = True, True, False
    assert unread_batches(unread, 4) == [[1, 2, 4, 5], range(8, 10), [7]]
    assert unread_batches(np.zeros(10, bool), 4) == []


def command(weights: Path, gallery: Path, index: Path) -> list[str]:
    return ["index", "--checkpoint", str(weights), "--gallery", str(gallery), "--out", str(index), "--workers", "0"]


@pytest.mark.parametrize("batch", [3, 10])
def test_a_command_that_is_killed_continues(weights, gallery, tmp_path, make, batch):
    """SIGKILL in a batch; meanwhile, a second command into the same index is refused."""
    index = gallery / "my.index"  # inside of the gallery
    work = unfinished_folder(index)
    slow = (
        "import sys, time, spn4cir.search.encode as e; encode, left = e.encode_pixels, [int(sys.argv.pop(1))]\n"
        "def slow(*a):\n    left[0] -= 1\n    time.sleep(0 if left[0] else 60)\n    return encode(*a)\n"
        "e.encode_pixels = slow\nfrom spn4cir.cli import app\napp()"
    )
    run = command(weights, gallery, index)
    with subprocess.Popen([sys.executable, "-c", slow, str(batch), *run], stdout=subprocess.DEVNULL) as child:
        until = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < until:
            if (work / RECORDS).exists() and (work / RECORDS).stat().st_size > 5000:
                break
            time.sleep(0.01)
        second = CliRunner().invoke(app, run)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert second.exit_code == 1
    assert f"{work}: another index command writes to it" in second.stderr
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 0, result.output
    assert "index: resumed after " in result.stdout
    assert "300 added" in result.stdout
    assert work == gallery / "my.index.unfinished"
    assert not work.exists()
    fresh = content(make().index(gallery), tmp_path / "two")
    assert {name: (index / name).read_bytes() for name in FILES} == fresh


def test_a_command_finds_what_is_in_the_place_before_it_reads_weights(gallery, tmp_path):
    place = tmp_path / "my.index.unfinished"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    result = CliRunner().invoke(app, command(tmp_path / "absent.pt", gallery, tmp_path / "my.index"))
    assert f"{place}: contains notes.txt" in result.stderr
    result = CliRunner().invoke(app, command(tmp_path / "absent.pt", place, tmp_path / "my.index"))
    assert result.exit_code == 1
