"""Reranking by the network of each family."""

from pathlib import Path

import torch

from spn4cir.datasets.cirr import Cirr
from spn4cir.evaluation.adjusted import evaluate_adjusted
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.rerank import first_candidates, rerank, score_candidates
from tests.conformance.builders import Subject
from tests.conftest import CPU
from tests.helpers.layouts import write_cirr
from tests.unit.test_evaluate import PROTOCOL

TOP = 4


def test_a_network_reranks_by_its_own_scores(first: Subject, tmp_path: Path) -> None:
    """As the second network, it gives the candidates their plain scores. Scores in reverse order reverse them."""
    network, layout = first.network, Cirr(write_cirr(tmp_path, val_groups=2), "error")
    splits = layout.evaluation_splits()
    images = encode_splits(network, splits, PROTOCOL, 0, CPU)
    plain = evaluate(network, layout, splits, images, PROTOCOL, CPU)
    (ranked,) = plain.splits
    columns, scores = first_candidates(ranked.ranking, TOP), ranked.ranking.top_scores[:, :TOP]
    (found,) = score_candidates(network, [ranked], [columns], PROTOCOL, 0, CPU)
    kept = columns >= 0
    assert bool(kept.any())
    torch.testing.assert_close(found[kept], scores[kept], rtol=1e-4, atol=1e-5)
    for sign in (1, -1):
        second = sign * torch.arange(TOP, 0, -1.0).expand(columns.shape)
        after = evaluate_adjusted(
            network, layout, plain, images, PROTOCOL, CPU, lambda *_, by=second: [rerank(columns, scores, by, 1.0)]
        )
        top = after.splits[0].ranking.top[:, :TOP][kept.all(dim=1)]
        expected = columns[kept.all(dim=1)]
        assert top.tolist() == (expected if sign == 1 else expected.flip(1)).tolist()
