"""Stored features of galleries: those of `encode_splits` bit by bit, resumed, and read only where they fit."""

import shutil
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spn4cir.composers.protocol import ImageFeatures
from spn4cir.config.params import Validate
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import encode_splits
from spn4cir.evaluation.stored_gallery import images_to_encode, store_gallery
from spn4cir.images.preprocess import Preprocess
from spn4cir.types import EvaluationSplit, Gallery, Triplet
from tests.conftest import CPU
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer


class Killed(Exception):
    """Simulates a SIGKILL."""


class Interrupted(StubComposer):
    """Ends an encoding at the `stop`-th batch."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.left = stop

    def encode_image(self, images: Tensor) -> ImageFeatures:
        self.left -= 1
        if not self.left:
            raise Killed
        return super().encode_image(images)


@pytest.fixture
def splits(tmp_path: Path) -> tuple[EvaluationSplit, ...]:
    """Two splits over 11 images, two of which are in both; a reference is outside the galleries."""
    names = tuple(f"i{number}" for number in range(11))
    paths = tuple(draw(tmp_path / "images" / f"{name}.png", number) for number, name in enumerate(names))
    images = Gallery(names, paths)
    first = (Triplet("i0", ("is red",), "i1"), Triplet("i5", ("is blue",), "i2"))
    second = (Triplet("i10", ("is long",), "i4"), Triplet("i5", ("is short",), "i9"))
    outside = images.restrict(frozenset({"i10"}))
    return (
        EvaluationSplit("one", first, images.restrict(frozenset(names[:6])), {}),
        EvaluationSplit("two", second, images.restrict(frozenset(names[4:10])), {}, outside=outside),
    )


def store(composer: StubComposer, splits: Sequence[EvaluationSplit], out: Path, protocol: Validate) -> None:
    work = out.parent / f"work {out.name}"
    work.mkdir(exist_ok=True)
    store_gallery(composer, *images_to_encode(splits), protocol.batch_size, out, work, 0, CPU)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_stored_features_are_those_of_an_encoding(
    stub: StubComposer, splits: Sequence[EvaluationSplit], protocol: Validate, tmp_path: Path
) -> None:
    """Each image is encoded once, reference rows are those of queries, and a second network encodes nothing."""
    store(stub, splits, tmp_path / "gallery", protocol)
    assert stub.encoded == 11
    trained = StubComposer()
    trained.text_side.weight.data += 1
    stored = encode_splits(trained, splits, protocol, 0, CPU, tmp_path / "gallery")
    assert trained.encoded == 0
    encoded = encode_splits(StubComposer(), splits, protocol, 0, CPU)
    assert stored.gallery == encoded.gallery
    for part in ("target", "reference", "kept"):
        assert torch.equal(getattr(stored, part), getattr(encoded, part))
    rows = stored.rows(["i10", "i5"])
    assert torch.equal(stored.references(rows), encoded.references(rows))
    assert len(stored.reference) == 3
    assert sorted(files(tmp_path / "gallery")) == ["manifest.json", "reference.npy", "target.npy"]


def test_the_size_is_reported(
    stub: StubComposer,
    splits: Sequence[EvaluationSplit],
    protocol: Validate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store(stub, splits, tmp_path / "gallery", protocol)
    expected = "gallery: 11 images: targets as float32 0.0 MB, 3 reference rows as float32 0.0 MB\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_encoding_resumes_where_it_was_killed(
    splits: Sequence[EvaluationSplit], protocol: Validate, tmp_path: Path, stop: int
) -> None:
    """Batches of 4, 4 and 3: written images are not encoded again, and the files are those of one run."""
    store(StubComposer(), splits, tmp_path / "whole", protocol)
    with pytest.raises(Killed):
        store(Interrupted(stop), splits, tmp_path / "gallery", protocol)
    assert not (tmp_path / "gallery").exists()
    second = StubComposer()
    store(second, splits, tmp_path / "gallery", protocol)
    assert second.encoded == [11, 7, 3][stop - 1]
    assert files(tmp_path / "gallery") == files(tmp_path / "whole")


def test_what_does_not_fit_is_reported_and_encoded(
    stub: StubComposer,
    splits: Sequence[EvaluationSplit],
    protocol: Validate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store(stub, splits, tmp_path / "gallery", protocol)

    def refused(composer: StubComposer, own: Sequence[EvaluationSplit], expected: str) -> None:
        capsys.readouterr()
        found = encode_splits(composer, own, protocol, 0, CPU, tmp_path / "gallery")
        assert composer.encoded == len(found.gallery)
        said = f"{tmp_path}/gallery: features of other {expected}; the images are encoded again\n"
        assert capsys.readouterr().err == said

    other = StubComposer()
    other.image_side.weight.data[0, 0] += 1e-6
    refused(other, splits, "weights")
    padded = StubComposer()
    padded.preprocess = Preprocess(8, target_ratio=None)
    refused(padded, splits, "preprocess")
    refused(StubComposer(), splits[:1], "images, names")
    asked = replace(splits[0], triplets=(*splits[0].triplets, Triplet("i3", ("is red",), "i1")))
    refused(StubComposer(), [asked, splits[1]], "names")


def test_damaged_features_are_named(
    stub: StubComposer, splits: Sequence[EvaluationSplit], protocol: Validate, tmp_path: Path
) -> None:
    store(stub, splits, tmp_path / "gallery", protocol)

    def refused(expected: str) -> None:
        with pytest.raises(InputError, match=rf"{expected}; run dvc repro gallery again"):
            encode_splits(stub, splits, protocol, 0, CPU, tmp_path / "gallery")

    path = tmp_path / "gallery" / "reference.npy"
    np.save(path, np.zeros((2, 12), np.float32))
    refused(r"reference\.npy: contains 2 rows, expected 3")
    np.save(path, np.zeros((3, 12), np.float16))
    refused(r"reference\.npy: contains float16, expected float32")
    path.write_bytes(path.read_bytes()[:140])
    refused(r"reference\.npy: cannot be read .*")
    (tmp_path / "gallery" / "target.npy").unlink()
    refused(r"target\.npy: cannot be read .*")
    with pytest.raises(InputError, match=r"manifest\.json: no such file"):
        encode_splits(stub, splits, protocol, 0, CPU, tmp_path)


def test_a_disk_without_room_is_reported_after_one_batch(
    splits: Sequence[EvaluationSplit], protocol: Validate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11 targets and 3 reference rows of 12 values of 4 bytes need 672 bytes."""
    usage = namedtuple("usage", "total used free")
    for free, encoded in ((671, 4), (672, 11)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**6, 0, free))
        stub, out = StubComposer(), tmp_path / f"gallery {free}"
        if encoded == 11:
            store(stub, splits, out, protocol)
        else:
            with pytest.raises(InputError, match="needs 0 MB but the disk has 0 MB free; free some space"):
                store(stub, splits, out, protocol)
            assert not out.exists()
        assert stub.encoded == encoded
