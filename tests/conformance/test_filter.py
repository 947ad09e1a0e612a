"""The ranks by which generated triplets are filtered, for every family."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spn4cir.training.bank import Bank
from spn4cir.training.reference_rows import StoredReferences
from spn4cir.training.text_ranks import rank_texts
from spn4cir.types import Triplet
from tests.conformance.builders import Subject, images
from tests.conftest import CPU

IMAGES = 7
NAMES = [f"i{row}" for row in range(IMAGES)]
TRIPLETS = [
    Triplet(NAMES[5], ("is red", "the longer floral dress with darker sleeves"), NAMES[1]),
    Triplet(NAMES[2], ("green and lighter",), NAMES[6]),
    Triplet(NAMES[5], ("is longer", "is red", "green"), NAMES[0]),
    Triplet(NAMES[0], ("is red",), NAMES[5]),
]


@pytest.mark.parametrize("batch_size", [2, 100])
def test_the_ranks_are_those_of_single_queries(first: Subject, tmp_path: Path, batch_size: int) -> None:
    """Each query is composed and scored by itself: with its reference, and with reference features of zeros."""
    network, expected = first.network, []
    with torch.no_grad():
        reference, target = network.encode_image(images(network, IMAGES))
        for triplet in TRIPLETS:
            own, wanted = NAMES.index(triplet.reference_name), NAMES.index(str(triplet.target_name))
            for text in triplet.captions:
                for features in (reference[[own]], torch.zeros_like(reference[[own]])):
                    scores = network.score(network.compose(features, [text]), target)[0].tolist()
                    others = [score for row, score in enumerate(scores) if row not in (own, wanted)]
                    expected.append(sum(score >= scores[wanted] for score in others))
    np.save(tmp_path / "reference.npy", reference.numpy())
    row = {name: number for number, name in enumerate(NAMES)}
    bank = Bank(StoredReferences(tmp_path / "reference.npy", IMAGES), target, row)
    found = rank_texts(network, bank, TRIPLETS, batch_size, 0, CPU)
    assert [found.query.tolist(), found.alone.tolist()] == [expected[::2], expected[1::2]]
    assert found.query.tolist() != found.alone.tolist(), "the reference has no effect"
