"""Images through a network: a cluster gets the batches of this process, and only what it needs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from spn4cir.composers.encoding import encode_batches
from spn4cir.images.preprocess import Preprocess, batch_rows
from spn4cir.positives.dedup import deduplicate
from spn4cir.positives.unicom import Unicom, UnicomSizes, encode_images
from spn4cir.search.encode import encode_new
from spn4cir.search.image_files import read_image
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.types import Gallery
from tests.conftest import CPU
from tests.helpers.clusters import OneProcessCluster
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer

KEEP = torch.tensor([True, False] * 5)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [draw(tmp_path / f"i{number}.png", number % 9) for number in range(10)]


@pytest.mark.parametrize(
    ("first", "sizes"), [(None, [4, 4, 2]), (1, [1, 4, 4, 1]), (4, [4, 4, 2]), (10, [10]), (12, [10])]
)
def test_the_first_batch_may_have_another_size(first: int | None, sizes: list[int]) -> None:
    rows = batch_rows(10, 4, first)
    assert [len(part) for part in rows] == sizes
    assert [row for part in rows for row in part] == list(range(10))


def test_without_images_there_are_no_batches() -> None:
    assert batch_rows(0, 4) == batch_rows(0, 4, 1) == []


@pytest.mark.parametrize("keep", [None, KEEP])
@pytest.mark.parametrize(("done", "first"), [(0, None), (0, 1), (1, None), (10, None)])
def test_a_cluster_returns_the_features_of_this_process(
    paths: list[Path], done: int, first: int | None, keep: torch.Tensor | None
) -> None:
    cluster = OneProcessCluster()
    here, there = (
        list(encode_batches(StubComposer(), paths, 4, workers, CPU, "x", done, keep, first)) for workers in (0, cluster)
    )
    assert [part for batch in cluster.batches for part in batch] == paths[done:]
    assert len(here) == len(there) == len(cluster.batches)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.reference, other.reference)
        assert torch.equal(one.target, other.target)


def test_features_are_no_parts_of_larger_tensors(paths: list[Path]) -> None:
    """Pickle would send the whole tensor that a part belongs to."""

    class Sliced(StubComposer):
        def encode_image(self, images: torch.Tensor) -> torch.nn.Module:
            found = super().encode_image(images)
            return found._replace(target=torch.cat([found.target, torch.zeros(100, 12)])[: len(images)])

    for features in encode_batches(Sliced(), paths, 4, 0, CPU, "x"):
        assert features.target.untyped_storage().nbytes() == len(features.target) * 12 * 4


def test_a_cluster_encodes_and_compares_for_match_and_dedup(paths: list[Path]) -> None:
    torch.manual_seed(0)
    model = Unicom(UnicomSizes(32, 16, 16, 1, 1, 16, 16, 8)).eval()
    here, there = (list(encode_images(model, paths, 4, workers, CPU, 4)) for workers in (0, OneProcessCluster()))
    assert torch.equal(torch.cat(here), torch.cat(there))
    assert [len(batch) for batch in there] == [4, 2]
    gallery = Gallery(tuple(path.name for path in paths), tuple(paths))
    assert deduplicate(gallery, OneProcessCluster()).row["i9.png"] == 0
    assert deduplicate(gallery, OneProcessCluster()) == deduplicate(gallery, 0)


@pytest.mark.parametrize("known", [False, True])
def test_an_index_from_a_cluster_has_the_same_vectors(tmp_path: Path, known: bool) -> None:
    """Forty images, one of them broken, with copies within a batch of 32 and in the next one."""
    paths = [draw(tmp_path / f"i{number}.png", number % 35) for number in range(40)]
    draw(paths[3], 2)
    paths[5].write_bytes(b"no image")
    crops = {read_image(paths[0], Preprocess(8)).digests.crop} if known else set()
    encode = partial(encode_new, StubComposer(), paths, crops.__contains__, device=CPU, new_store=StoredTargets)
    cluster = OneProcessCluster()
    (here, new), (there, others) = (encode(workers=each, skip=True) for each in (0, cluster))
    assert list(here)[:5] + list(here)[6:] == list(there)[:5] + list(there)[6:]
    assert here.rows == there.rows
    assert str(here[5]) == str(there[5])
    assert [len(batch) for batch in cluster.batches] == [30 - known, 4]
    assert (new.count, new.shape) == (others.count, others.shape)
    assert new.stored is not None
    assert others.stored is not None
    assert np.array_equal(new.stored.targets(new.stored.ids), others.stored.targets(others.stored.ids))
    assert str(encode(workers=cluster, skip=False)[0][5]) == str(here[5])
