"""The bank: one encode for each image, resumed after any kill, rejected where it does not fit."""

import errno
import os
import shutil
import tempfile
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import spn4cir.composers.encoding
import spn4cir.composers.feature_files
import spn4cir.training.bank
from spn4cir.composers.encoding import encode_batches, encode_gallery, tensors_hash
from spn4cir.composers.feature_files import FeatureFiles
from spn4cir.composers.protocol import ImageFeatures
from spn4cir.config.training import BankSettings
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.images.preprocess import Preprocess
from spn4cir.training.bank import build_bank, manifest, open_bank
from spn4cir.training.reference_rows import RecomputedReferences, StoredReferences
from spn4cir.types import Gallery, UniqueImages
from tests.conftest import CPU
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer


class Killed(Exception):
    """Simulates a SIGKILL: nothing in the package catches it."""


@pytest.fixture
def unique(tmp_path: Path) -> UniqueImages:
    """Ten images; the first and the last have a second name each."""
    names = tuple(f"i{number}" for number in range(10))
    paths = tuple(draw(tmp_path / "images" / f"{name}.png", number) for number, name in enumerate(names))
    row = {name: position for position, name in enumerate(names)}
    return UniqueImages(Gallery(names, paths), row | {"copy": 0, "other": 9})


def settings(**changes: Any) -> BankSettings:
    base = {"dtype": "float32", "batch_size": 4, "reference": "stored", "images": "annotated"}
    return BankSettings(**(base | changes))


def build(composer: Any, unique: UniqueImages, out: Path, work: Path, **changes: Any) -> None:
    work.mkdir(parents=True, exist_ok=True)
    build_bank(composer, unique, settings(**changes), out, work, 0, CPU)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_unique_image_is_encoded_once(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    """Twelve names need ten encodes, and each row contains both features of its image."""
    build(stub, unique, tmp_path / "bank", tmp_path / "work")
    assert stub.encoded == len(unique.gallery) == 10
    bank = open_bank(tmp_path / "bank", stub, unique, settings())
    assert stub.encoded == 10
    images = torch.stack([Preprocess(8)(open_image(path)) for path in unique.gallery.paths])
    features = F.avg_pool2d(images, 4).flatten(1)
    torch.testing.assert_close(bank.reference[range(10)], features)
    torch.testing.assert_close(bank.target, F.normalize(features, dim=1))
    assert bank.row["copy"] == 0
    assert sorted(files(tmp_path / "bank")) == ["manifest.json", "reference.npy", "target.npy"]


def test_reference_features_are_mapped_not_read(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    """22 GB of BLIP's tokens do not fit into memory; rows are read on request, duplicates included."""
    build(stub, unique, tmp_path / "bank", tmp_path / "work", dtype="float16")
    bank = open_bank(tmp_path / "bank", stub, unique, settings(dtype="float16"))
    assert isinstance(bank.reference, StoredReferences)
    assert isinstance(bank.reference.array, np.memmap)
    assert bank.reference.row_bytes == 12 * 2
    rows = bank.reference[[0, 7]]
    assert rows.dtype is torch.float16
    assert torch.equal(rows, torch.from_numpy(bank.reference.array[[0, 7]]))
    assert (tmp_path / "bank" / "reference.npy").stat().st_size < 10 * 12 * 2 + 200


def test_targets_stay_in_float32(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    """`dtype` applies to the reference rows; targets are stored bit for bit as the network computes them."""
    for dtype in ("float32", "float16"):
        build(stub, unique, tmp_path / dtype, tmp_path / f"work {dtype}", dtype=dtype)
    wide, narrow = ((tmp_path / dtype / "target.npy").read_bytes() for dtype in ("float32", "float16"))
    assert wide == narrow
    bank = open_bank(tmp_path / "float16", stub, unique, settings(dtype="float16"))
    assert bank.target.dtype is torch.float32
    assert torch.equal(bank.target, torch.from_numpy(np.load(tmp_path / "float32" / "target.npy")))


def test_a_bank_with_targets_in_float16_is_refused(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    """Earlier versions wrote banks of dtype float16 in this form, with an equal manifest."""
    build(stub, unique, tmp_path / "bank", tmp_path / "work", dtype="float16")
    path = tmp_path / "bank" / "target.npy"
    np.save(path, np.load(path).astype(np.float16))
    with pytest.raises(InputError, match=r"target\.npy: contains float16, expected float32; build .* again"):
        open_bank(tmp_path / "bank", stub, unique, settings(dtype="float16"))


def test_recomputed_references_are_not_stored(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bank contains only targets and manifest, and is resumed like any other; images replace the rows."""
    with pytest.raises(Killed):
        build(Interrupted(3), unique, tmp_path / "bank", tmp_path / "work", reference="recomputed")
    build(stub, unique, tmp_path / "bank", tmp_path / "work", reference="recomputed")
    assert stub.encoded == 5
    assert sorted(files(tmp_path / "bank")) == ["manifest.json", "target.npy"]
    bank = open_bank(tmp_path / "bank", stub, unique, settings(reference="recomputed"))
    assert isinstance(bank.reference, RecomputedReferences)
    assert tuple(bank.reference.files.paths) == unique.gallery.paths
    build(StubComposer(), unique, tmp_path / "stored", tmp_path / "work 2")
    stored = open_bank(tmp_path / "stored", stub, unique, settings())
    assert torch.equal(bank.target, stored.target)
    for folder, other in (("bank", "stored"), ("stored", "recomputed")):
        with pytest.raises(InputError, match="the bank was built with other reference;"):
            open_bank(tmp_path / folder, stub, unique, settings(reference=other))
    expected = (
        "reference rows as float32 0.0 MB, encoded again in each step: none of it on disk; targets as float32 0.0 MB"
    )
    assert expected in capsys.readouterr().out


class Wide(StubComposer):
    """Features with the shapes of BLIP-2's; records the output at the start of each batch."""

    def __init__(self, capsys: pytest.CaptureFixture[str], stop: int = 0) -> None:
        super().__init__()
        self.capsys = capsys
        self.stop = stop
        self.said: list[tuple[int, str]] = []

    def encode_image(self, images: Tensor) -> ImageFeatures:
        if len(self.said) + 1 == self.stop:
            raise Killed
        self.said.append((len(images), self.capsys.readouterr().out))
        super().encode_image(images)
        return ImageFeatures(torch.zeros(len(images), 577, 768), torch.zeros(len(images), 32, 256))


@pytest.mark.parametrize("reference", ["stored", "recomputed"])
def test_the_size_of_both_parts_is_reported_after_one_image(
    unique: UniqueImages, tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: str
) -> None:
    """Rows of 577 x 768 in 16 bit have 0.886 MB, targets of 32 x 256 in 32 bit 0.033 MB; also when resumed."""
    first = Wide(capsys, stop=3)
    with pytest.raises(Killed):
        build(first, unique, tmp_path / "bank", tmp_path / "work", dtype="float16", reference=reference)
    where = "on disk" if reference == "stored" else "encoded again in each step: none of it on disk"
    expected = f"bank: 10 images: reference rows as float16 8.9 MB, {where}; targets as float32 0.3 MB\n"
    assert first.said == [(1, ""), (4, expected)]
    second = Wide(capsys)
    build(second, unique, tmp_path / "bank", tmp_path / "work", dtype="float16", reference=reference)
    assert second.said == [(4, f"{expected}bank: resumed after 5 of 10 images\n"), (1, "")]


def test_values_beyond_float16_are_refused(unique: UniqueImages, tmp_path: Path) -> None:
    """Such values would be stored as infinity."""
    large = StubComposer()
    large.image_side.weight.data.mul_(1e6)
    with pytest.raises(
        InputError, match=r"reference features reach .*e\+.*, more than float16 can hold; .*dtype: float32"
    ):
        build(large, unique, tmp_path / "bank", tmp_path / "work", dtype="float16")
    build(large, unique, tmp_path / "bank", tmp_path / "work 2")


def test_targets_that_were_cut_short_are_named(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    build(stub, unique, tmp_path / "bank", tmp_path / "work")
    path = tmp_path / "bank" / "target.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"target\.npy: cannot be read .*; build the bank again"):
        open_bank(tmp_path / "bank", stub, unique, settings())
    np.save(path, np.zeros((9, 12), np.float32))
    with pytest.raises(InputError, match=r"target\.npy: contains 9 rows, expected 10; build the bank again"):
        open_bank(tmp_path / "bank", stub, unique, settings())
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"target\.npy: cannot be read .*; build the bank again"):
        open_bank(tmp_path / "bank", stub, unique, settings())


def test_a_bank_that_was_cut_short_is_named(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    build(stub, unique, tmp_path / "bank", tmp_path / "work")
    path = tmp_path / "bank" / "reference.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"reference\.npy: cannot be read .*; build the bank again"):
        open_bank(tmp_path / "bank", stub, unique, settings())
    np.save(path, np.zeros((9, 12), np.float32))
    with pytest.raises(InputError, match="contains 9 rows, expected 10; build the bank again"):
        open_bank(tmp_path / "bank", stub, unique, settings())
    path.unlink()
    with pytest.raises(InputError, match=r"reference\.npy: cannot be read .*No such file"):
        open_bank(tmp_path / "bank", stub, unique, settings())


def test_float16_is_a_rounding_of_float32(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        build(stub, unique, tmp_path / dtype, tmp_path / f"work {dtype}", dtype=dtype)
    wide, narrow = (np.load(tmp_path / dtype / "reference.npy") for dtype in ("float32", "float16"))
    assert (wide.astype(np.float16) == narrow).all()


class Interrupted(StubComposer):
    """Ends a build at the `stop`-th batch."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.stop = stop
        self.batches = 0

    def encode_image(self, images: Tensor) -> ImageFeatures:
        self.batches += 1
        if self.batches == self.stop:
            raise Killed
        return super().encode_image(images)


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_build_resumes_where_it_was_killed(unique: UniqueImages, tmp_path: Path, stop: int, dtype: str) -> None:
    """Batches are the first image, then 4, 4 and 1: written rows are not encoded again, and all files are equal."""
    build(StubComposer(), unique, tmp_path / "whole", tmp_path / "work 1", dtype=dtype)
    with pytest.raises(Killed):
        build(Interrupted(stop), unique, tmp_path / "bank", tmp_path / "work 2", dtype=dtype)
    assert not (tmp_path / "bank").exists()
    second = StubComposer()
    build(second, unique, tmp_path / "bank", tmp_path / "work 2", dtype=dtype)
    assert second.encoded == [10, 9, 5, 1][stop - 1]
    assert files(tmp_path / "bank") == files(tmp_path / "whole")


@pytest.mark.parametrize("part", ["reference", "target"])
@pytest.mark.parametrize("left", [0, 100, 300, None])
def test_files_that_were_cut_short_after_a_kill_are_made_again(
    unique: UniqueImages, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, left: int | None
) -> None:
    """Cut within the header or the rows, or gone; a second kill before the first new row does not bring it back."""
    build(StubComposer(), unique, tmp_path / "whole", tmp_path / "work 1")
    with pytest.raises(Killed):
        build(Interrupted(3), unique, tmp_path / "bank", tmp_path / "work 2")
    (path,) = (tmp_path / "work 2").rglob(f"{part}.npy")
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)
    for stop in (1, 0):
        each = Interrupted(stop)
        with pytest.raises(Killed) if stop else nullcontext():
            build(each, unique, tmp_path / "bank", tmp_path / "work 2")
    assert each.encoded == 10
    assert files(tmp_path / "bank") == files(tmp_path / "whole")
    line = "bank: files of the interrupted build are incomplete: encodes all images again\n"
    assert capsys.readouterr().out.count(line) == 1


@pytest.mark.parametrize("name", ["write_json", "manifest", "_append", "publish"])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_kill_between_any_two_steps_loses_at_most_a_batch(
    unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    """The kill comes before or after rows are flushed, before they are recorded, and while the bank is published."""
    build(StubComposer(), unique, tmp_path / "whole", tmp_path / "work 1")
    writer = spn4cir.composers.feature_files
    owner = {"manifest": spn4cir.training.bank, "publish": writer.FeatureFiles}.get(name, writer)
    real, calls = getattr(owner, name), []

    def stopped(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopped)
        try:
            build(StubComposer(), unique, tmp_path / "bank", tmp_path / "work 2")
        except Killed:
            second = StubComposer()
            patched.undo()
            build(second, unique, tmp_path / "bank", tmp_path / "work 2")
            noted = min({"manifest": 4, "publish": 4, "write_json": call - 1, "_append": call - 1}[name], 4)
            assert second.encoded == [10, 9, 5, 1, 0][noted]
    assert files(tmp_path / "bank") == files(tmp_path / "whole")


@pytest.mark.parametrize("links", [True, False])
def test_a_finished_build_is_kept_until_the_bank_is_stored(
    unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """DVC removes the outs of a stage killed after its end; a second run encodes nothing, on another disk too."""
    if not links:

        def other_disk(*args: Any) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", other_disk)
    build(StubComposer(), unique, tmp_path / "bank", tmp_path / "work")
    whole = files(tmp_path / "bank")
    kept = tmp_path / "work" / "files" / "target.npy"
    assert kept.samefile(tmp_path / "bank" / "target.npy") == links
    for path in (tmp_path / "work" / "files").iterdir():  # as DVC leaves what it has put into its cache
        path.chmod(0o444)
    shutil.rmtree(tmp_path / "bank")
    # To write to read-only files is an error, but not for the root user.
    monkeypatch.delattr(FeatureFiles, "_open_maps")
    second = StubComposer()
    build(second, unique, tmp_path / "bank", tmp_path / "work")
    assert second.encoded == 0
    assert files(tmp_path / "bank") == whole
    assert [path.name for path in tmp_path.glob(".bank*")] == []


def test_an_older_bank_is_replaced_whole(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "stale.npy").write_bytes(b"x")
    build(stub, unique, tmp_path / "bank", tmp_path / "work")
    assert "stale.npy" not in files(tmp_path / "bank")


def test_what_does_not_fit_is_refused_by_name(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    """A bank of other frozen weights, preprocessing, names, rows or dtype is rejected; the trained side may differ."""
    build(stub, unique, tmp_path / "bank", tmp_path / "work")

    def refused(match: str, composer: Any = stub, images: UniqueImages = unique, dtype: Any = "float32") -> None:
        with pytest.raises(InputError, match=f"the bank was built with other {match};"):
            open_bank(tmp_path / "bank", composer, images, settings(dtype=dtype))

    refused("dtype", dtype="float16")
    other = StubComposer()
    other.text_side.weight.data += 1
    open_bank(tmp_path / "bank", other, unique, settings())
    other.image_side.weight.data[0, 0] += 1e-6
    refused("weights", other)
    padded = StubComposer()
    padded.preprocess = Preprocess(8, target_ratio=None)
    refused("preprocess", padded)
    gallery = unique.gallery
    refused("names", images=UniqueImages(Gallery(gallery.names[::-1], gallery.paths), unique.row))
    refused("names", images=UniqueImages(gallery, {**unique.row, "copy": 1}))
    refused("images, names", images=UniqueImages(Gallery(gallery.names[:9], gallery.paths[:9]), unique.row))
    open_bank(tmp_path / "bank", stub, unique, settings(batch_size=99))


def test_an_absent_bank_is_named(stub: StubComposer, unique: UniqueImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: no such file"):
        open_bank(tmp_path, stub, unique, settings())


def test_a_disk_without_room_is_reported_after_one_image(
    unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows of 12 values of 4 bytes, twice, are 960 bytes. Nothing is written, and no batch is encoded."""
    usage = namedtuple("usage", "total used free")
    for free, fits in ((959, False), (960, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**6, 0, free))
        work, stub = tmp_path / f"work {free}", StubComposer()
        if fits:
            build(stub, unique, tmp_path / "bank", work)
            assert stub.encoded == 10
            continue
        remedies = r"free some space, or .*<family>\.dtype: float16 .*, or .*<family>\.reference: recomputed"
        with pytest.raises(InputError, match=f"needs 0 MB but the disk has 0 MB free; {remedies}"):
            build(stub, unique, tmp_path / "bank", work)
        assert stub.encoded == 1
        assert list(work.iterdir()) == []
        assert not (tmp_path / "bank").exists()


def test_rows_in_float16_need_half_the_room(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows of 12 values of 2 bytes and ten of 4 are 720 bytes; float16 is no remedy any more."""
    usage = namedtuple("usage", "total used free")
    for free in (719, 720):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**6, 0, free))
        if free == 720:
            build(stub, unique, tmp_path / "bank", tmp_path / "work", dtype="float16")
            continue
        with pytest.raises(InputError, match=r"0 MB free; free some space, or [^,]*<family>\.reference: recomputed"):
            build(stub, unique, tmp_path / "bank", tmp_path / "work", dtype="float16")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_references_that_are_not_stored_need_no_room(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Ten targets of 12 values of 4 bytes need 480 bytes for any dtype; with less, no setting helps."""
    usage = namedtuple("usage", "total used free")
    for free in (479, 480):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**6, 0, free))
        if free == 480:
            build(stub, unique, tmp_path / "bank", tmp_path / "work", reference="recomputed", dtype=dtype)
            continue
        with pytest.raises(InputError, match=r"0 MB free; free some space$"):
            build(stub, unique, tmp_path / "bank", tmp_path / "work", reference="recomputed", dtype=dtype)


def test_room_is_claimed_before_the_first_row(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped file with holes would cause a bus error if other processes fill the disk meanwhile."""

    def full(descriptor: int, start: int, size: int) -> None:
        assert size >= 10 * 12 * 4
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="the disk is full"):
        build(stub, unique, tmp_path / "bank", tmp_path / "work")
    assert not (tmp_path / "bank").exists()
    monkeypatch.undo()
    build(stub, unique, tmp_path / "bank", tmp_path / "work")


def test_a_broken_image_stops_the_build_and_can_be_mended(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path
) -> None:
    path = unique.gallery.paths[6]
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(InputError, match=r"i6\.png: cannot be decoded"):
        build(stub, unique, tmp_path / "bank", tmp_path / "work")
    path.write_bytes(whole)
    build(stub, unique, tmp_path / "bank", tmp_path / "work")
    assert stub.encoded == 10


def test_a_hash_of_tensors_sees_names_shapes_and_values() -> None:
    base = tensors_hash([("a", torch.zeros(2, 3))])
    assert base == tensors_hash([("a", torch.zeros(3, 2).T)])
    assert base == tensors_hash([("a", torch.zeros(2, 3).half())])
    others = [("b", torch.zeros(2, 3)), ("a", torch.zeros(3, 2)), ("a", torch.ones(2, 3))]
    assert len({base, *(tensors_hash([other]) for other in others)}) == 4


def test_a_manifest_is_plain_json(stub: StubComposer, unique: UniqueImages) -> None:
    content = manifest(stub, unique, settings())
    assert content["images"] == 10
    assert content["family"] == "stub"
    assert all(isinstance(value, str | int) for value in content.values())


def test_encoding_a_gallery_keeps_its_order(stub: StubComposer, unique: UniqueImages) -> None:
    """Batches of 3, 3, 3 and 1 give the features of one-by-one encoding."""
    encoded = encode_gallery(stub, unique.gallery, range(10), 3, 0, CPU, "x")
    assert stub.encoded == 10
    single = [next(iter(encode_batches(stub, [path], 1, 0, CPU, "x"))) for path in unique.gallery.paths]
    torch.testing.assert_close(encoded.reference, torch.cat([part.reference for part in single]))
    torch.testing.assert_close(encoded.target, torch.cat([part.target for part in single]))
    rest = torch.cat([part.target for part in encode_batches(stub, unique.gallery.paths, 3, 0, CPU, "x", done=6)])
    assert torch.equal(rest, encoded.target[6:])


@pytest.mark.parametrize("done", [0, 1, 3, 9, 10])
def test_progress_ends_at_its_total(unique: UniqueImages, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    """The total is right even if the rows done before are not a whole number of batches."""
    totals = []

    def progress(batches: Any, total: int, label: str, unit: str, before: int) -> Any:
        totals.append(total - before)
        return batches

    monkeypatch.setattr(spn4cir.composers.encoding, "progress", progress)
    assert [len(list(encode_batches(StubComposer(), unique.gallery.paths, 3, 0, CPU, "x", done)))] == totals


@pytest.mark.parametrize("wanted", [[], [9], [8, 0, 3], [5, 5, 4]])
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_only_references_of_queries_are_kept(
    unique: UniqueImages, monkeypatch: pytest.MonkeyPatch, wanted: list[int], limit: int
) -> None:
    """A BLIP row has 1.8 MB in float32: 27 GB for FashionIQ's galleries. Rows are in memory or in a nameless file."""
    whole = encode_gallery(StubComposer(), unique.gallery, range(10), 3, 0, CPU, "x")
    monkeypatch.setattr(spn4cir.composers.encoding, "_IN_MEMORY", limit)
    stub = StubComposer()
    encoded = encode_gallery(stub, unique.gallery, wanted, 3, 0, CPU, "x")
    assert stub.encoded == 10
    assert encoded.kept.tolist() == sorted(set(wanted))
    assert torch.equal(encoded.reference, whole.reference[sorted(set(wanted))])
    rows = torch.tensor(wanted, dtype=torch.long)
    assert torch.equal(encoded.references(rows), whole.reference[rows])
    assert torch.equal(encoded.target, whole.target)


def test_reference_features_that_are_not_kept_stay_where_they_are(unique: UniqueImages) -> None:
    """Batches of 4, 4 and 2, resumed after the first, with images 5 and 9 wanted."""
    keep = torch.zeros(10, dtype=torch.bool)
    keep[[0, 5, 9]] = True
    batches = list(encode_batches(StubComposer(), unique.gallery.paths, 4, 0, CPU, "x", 4, keep))
    assert [(part.reference.shape, part.target.shape) for part in batches] == [((1, 12), (4, 12)), ((1, 12), (2, 12))]
    whole = next(iter(encode_batches(StubComposer(), unique.gallery.paths, 10, 0, CPU, "x")))
    torch.testing.assert_close(torch.cat([part.reference for part in batches]), whole.reference[[5, 9]])


def test_large_reference_features_need_room_for_a_temporary_file(
    stub: StubComposer, unique: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows of 12 values of 4 bytes are stored; the file has no name and leaves nothing behind."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(spn4cir.composers.encoding, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for free in (143, 144):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**6, 0, free))
        if free == 144:
            encoded = encode_gallery(stub, unique.gallery, [0, 1, 2], 4, 0, CPU, "x")
            assert encoded.reference.shape == (3, 12)
            continue
        with pytest.raises(InputError, match=r"/tmp: needs 0 MB but .*, or set TMPDIR to a folder on another disk"):
            encode_gallery(stub, unique.gallery, [0, 1, 2], 4, 0, CPU, "x")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_batch_that_the_gpu_cannot_hold_names_the_setting(unique: UniqueImages) -> None:
    class Full(StubComposer):
        def encode_image(self, images: Tensor) -> ImageFeatures:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has")

    with pytest.raises(InputError, match=r"^encode bank: a batch does not fit .* lower batch_size \(3\)"):
        list(encode_batches(Full(), unique.gallery.paths, 3, 0, CPU, "encode bank"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_reach_no_bank(unique: UniqueImages, tmp_path: Path, value: float) -> None:
    """Broken weights also stop the encoding of a gallery at the first image."""
    broken = StubComposer()
    broken.image_side.weight.data[0, 0] = value
    with pytest.raises(InputError, match="encode bank: the network's features are not finite; its weights are broken"):
        build(broken, unique, tmp_path / "bank", tmp_path / "work")
    assert broken.encoded == 1
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(InputError, match="not finite"):
        encode_gallery(broken, unique.gallery, [], 3, 0, CPU, "encode gallery")
