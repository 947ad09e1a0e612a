"""Training queries from a bank and the bias against hubs, for every family and its own score."""

from pathlib import Path

import numpy as np
import torch

from spn4cir.evaluation.hubness import hub_biases
from spn4cir.training.bank import Bank
from spn4cir.training.bank_queries import compose_bank_queries
from spn4cir.training.reference_rows import StoredReferences
from spn4cir.types import Triplet
from tests.conformance.builders import Subject, images
from tests.conformance.test_features import TEXTS
from tests.conftest import CPU

BETA = 20.0


def test_the_bias_is_that_of_the_networks_own_queries_and_scores(subject: Subject, tmp_path: Path) -> None:
    """Queries from the bank equal queries from the images, and the bias is the log of a sum over the score matrix."""
    network = subject.network
    with torch.no_grad():
        reference, target = network.encode_image(images(network))
        gallery = network.encode_image(images(network, seed=1)).target
        expected = network.compose(reference, TEXTS)
        scores = network.score(expected, gallery)
    np.save(tmp_path / "reference.npy", reference.numpy())
    names = [f"i{row}" for row in range(4)]
    bank = Bank(StoredReferences(tmp_path / "reference.npy", 4), target, {name: row for row, name in enumerate(names)})
    triplets = [Triplet(name, (text,), name) for name, text in zip(names, TEXTS, strict=True)]
    batches = list(compose_bank_queries(network, bank, triplets, TEXTS, 3, 0, CPU))
    torch.testing.assert_close(torch.cat(batches), expected, rtol=0, atol=1e-5)
    (bias,) = hub_biases(network.score, batches, [gallery], BETA)
    torch.testing.assert_close(bias, -(BETA * scores).exp().sum(dim=0).log() / BETA, rtol=0, atol=1e-4)
