"""Baselines without training: the scores of a CLIP network whose queries are composed by fixed rules."""

from collections.abc import Mapping, Sequence

import torch

from spn4cir.composers.compositions import COMPOSITIONS, RuleComposer, compose_by
from spn4cir.composers.encoding import EncodedGallery
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import ScoringSettings
from spn4cir.datasets.protocol import Benchmark, Scores
from spn4cir.evaluation.evaluate import evaluate
from spn4cir.types import EvaluationSplit


def baselines_of(composer: Composer) -> dict[str, RuleComposer]:
    """Returns a composer of the network for each rule, all of which share its weights.

    Raises InputError for a family that does not compose by addition over CLIP.
    """
    return {rule: compose_by(composer, rule) for rule in COMPOSITIONS}


def measure_baselines(
    baselines: Mapping[str, Composer],
    layout: Benchmark,
    splits: Sequence[EvaluationSplit],
    images: EncodedGallery,
    settings: ScoringSettings,
    device: torch.device,
) -> dict[str, Scores]:
    """Scores each rule with the protocol of the network's own scores; encodes no image.

    Args:
        baselines: the composers by rule, on `device`.
        layout: layout of the scores.
        splits: queries and galleries.
        images: features of the galleries.
        settings: evaluation protocol.
        device: where the network runs.

    Returns:
        The flat scores in percent, by rule: the entry `baselines` of the metrics file.
    """
    return {
        rule: evaluate(composer, layout, splits, images, settings, device).scores
        for rule, composer in baselines.items()
    }


def score_lines(scores: Scores, baselines: Mapping[str, Scores]) -> list[str]:
    """Returns one line for each score, in percent; with baselines, a table with a column for each of them."""
    width = max(24, *map(len, scores))
    lines = [
        " ".join([f"{key:<{width}}", *(f"{column[key]:6.2f}" for column in (scores, *baselines.values()))])
        for key in scores
    ]
    if not baselines:
        return lines
    return [" ".join([" " * width, *(f"{name:>6}" for name in ("query", *baselines))]), *lines]
