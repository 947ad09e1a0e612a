"""Scores of a network whose ranking is adjusted at inference, beside those of its plain ranking."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import ScoringSettings
from spn4cir.datasets.protocol import Benchmark
from spn4cir.evaluation.evaluate import Evaluation, RankedSplit, compose_queries, measured, rank_queries
from spn4cir.evaluation.ranking import Adjust

# From the plain ranking of each split and the features of its candidates to the change of the split's scores.
Adjustment = Callable[[Sequence[RankedSplit], Sequence[Tensor]], Sequence[Adjust]]


def evaluate_adjusted(
    composer: Composer,
    layout: Benchmark,
    plain: Evaluation,
    images: EncodedGallery,
    settings: ScoringSettings,
    device: torch.device,
    adjustment: Adjustment,
) -> Evaluation:
    """Ranks the queries of an evaluation again with adjusted scores; alternative galleries are not ranked.

    Args:
        composer: the network, on `device`.
        layout: layout of the scores.
        plain: the plain ranking of the network, which is not changed.
        images: features of the galleries and references.
        settings: evaluation protocol.
        device: where the scores are computed.
        adjustment: what changes the scores.
    """
    galleries = [images.targets(ranked.names).to(device) for ranked in plain.splits]
    changes = adjustment(plain.splits, galleries)
    splits = []
    for ranked, adjust in zip(plain.splits, changes, strict=True):
        own = ranked.split.own_galleries
        triplets = ranked.split.triplets
        queries = compose_queries(composer, triplets, ranked.texts, images, settings.batch_size, device)
        ranking = rank_queries(composer, queries, triplets, ranked.names, images, settings, device, own, adjust)
        splits.append(replace(ranked, ranking=ranking))
    scores = layout.summarise({ranked.split.name: measured(layout, ranked.ranking) for ranked in splits})
    return Evaluation(scores, {}, tuple(splits))
