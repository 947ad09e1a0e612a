"""The order of proposed references: it covers the gallery in proportion, by a seed."""

from collections import Counter

import numpy as np
import pytest
import torch

from spn4cir.search.encode import NewTargets
from spn4cir.search.image_files import DIGEST_BYTES, ImageDigests, Stamp
from spn4cir.search.index import ImageIndex
from spn4cir.search.read_images import PackedDigests, PackedStamps, ReadImages
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.serving.proposals import proposal_order

# Names begin with the letter of a group; the groups are far from each other.
SIZES = {"a": 60, "b": 30, "c": 10}


def image_index(tokens: int | None, copies: int = 1) -> ImageIndex:
    index = ImageIndex()
    names: list[str] = []
    stamps: list[Stamp] = []
    digests, targets = PackedDigests(), {}
    noise = torch.Generator().manual_seed(0)
    for place, (group, size) in enumerate(SIZES.items()):
        for number in range(size):
            crop = f"{group}{number}".encode().ljust(DIGEST_BYTES)
            for copy in range(copies):
                name = f"{group}{number:02}{'-copy' * copy}.png"
                names.append(name)
                stamps.append(Stamp(f"/g/{name}", 1, 1))
                digest = f"{group}{number}-{copy}".encode().ljust(DIGEST_BYTES)
                digests.append(ImageDigests(digest, crop), len(targets))
            target = torch.eye(4)[place] + 0.01 * torch.randn(4, generator=noise)
            targets[crop] = target if tokens is None else target.repeat(tokens, 1)
    whole = torch.stack(list(targets.values()))
    stored = StoredTargets(tokens or 1, 4)
    stored.append(np.arange(len(whole)), whole.reshape(len(whole), -1, 4).numpy())
    new = NewTargets(len(targets), tuple(whole.shape[1:]), stored)
    index.update(index.columns(ReadImages(names, PackedStamps.of(stamps), digests)), [], new)
    return index


@pytest.mark.parametrize("tokens", [None, 3])
def test_each_part_of_the_order_has_each_group_s_share(tokens):
    names = proposal_order(image_index(tokens), 3, seed=0)
    assert sorted(names) == sorted(image_index(tokens).names)
    for start in range(0, 100, 10):
        counts = Counter(name[0] for name in names[start : start + 10])
        assert all(abs(counts[group] - size / 10) <= 1 for group, size in SIZES.items())


def test_the_order_depends_on_the_seed_alone():
    first, again, other = (proposal_order(image_index(None), 3, seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("clusters", [1, 99, 100, 1000])
def test_any_number_of_clusters_orders_all_images(clusters, capfd):
    assert len(set(proposal_order(image_index(None), clusters, seed=0))) == 100
    assert capfd.readouterr() == ("", "")


def test_images_of_one_crop_are_proposed_once():
    names = proposal_order(image_index(None, copies=2), 3, seed=0)
    assert len({name[:3] for name in names}) == len(names) == 100
