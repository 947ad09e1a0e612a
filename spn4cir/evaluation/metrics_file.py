"""The content of a metrics file: scores, and how and on what they were measured."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.config.params import ScoringSettings
from spn4cir.datasets.protocol import Benchmark
from spn4cir.evaluation.evaluate import Evaluation, RankedSplit, measured
from spn4cir.evaluation.ranking import TIE_RULE, Ranking
from spn4cir.evaluation.sample_size import too_few_entry
from spn4cir.types import EvaluationSplit


def metrics_file(
    evaluation: Evaluation, layout: Benchmark, settings: ScoringSettings, composer: Composer, family: str | None = None
) -> dict[str, Any]:
    """The content of a metrics file: flat scores, then protocol, counts and alternatives.

    `family` is the name of the recipe if it differs from the family of the network.
    """
    splits = [ranked.split for ranked in evaluation.splits]
    return {
        **evaluation.scores,
        "protocol": describe_protocol(layout, settings, composer, family),
        "counts": _counts(layout, splits),
        "alternatives": evaluation.alternatives,
        **by_aspect(layout, evaluation.splits),
        **too_few_entry(sum(len(split.triplets) for split in splits)),
    }


def describe_protocol(
    layout: Benchmark, settings: ScoringSettings, composer: Composer, family: str | None = None
) -> dict[str, Any]:
    """Returns the entry `protocol` of a metrics file; `family` is a recipe's name, as in `metrics_file`."""
    return {
        "family": family or composer.family,
        **{setting: ", ".join(parts) for setting, parts in layout.protocol.parts.items()},
        "gallery": layout.protocol.gallery,
        "queries": layout.protocol.queries,
        **({"splits": "; ".join(map(str, layout.protocol.assigned))} if layout.protocol.assigned else {}),
        "reference": "removed from the ranking" if settings.remove_reference else "kept in the ranking",
        "captions": layout.protocol.captions,
        "text": "first letter capitalised" if settings.capitalise else "letters as written",
        "ties": TIE_RULE,
        "preprocess": composer.preprocess.describe(),
    }


def _counts(layout: Benchmark, splits: Sequence[EvaluationSplit]) -> dict[str, Any]:
    """The entry `counts` of a metrics file: queries, images and what was left out, by split."""
    return {
        "queries": {split.name: len(split.triplets) for split in splits},
        "left_out": {split.name: split.left_out for split in splits},
        "empty_texts": {split.name: sum(t.has_empty_text for t in split.triplets) for split in splits},
        "gallery": {split.name: len(split.gallery) for split in splits},
        "missing_images": {split.name: split.missing for split in splits},
        **(
            {"assigned": {own.split: {"rows": own.rows, "of": own.of} for own in layout.protocol.assigned}}
            if layout.protocol.assigned
            else {}
        ),
        **({"targets": {split.name: _target_counts(split) for split in splits}} if layout.protocol.map_ks else {}),
        "alternatives": {
            split.name: {name: len(gallery) for name, gallery in split.alternatives.items()} for split in splits
        },
    }


def _target_counts(split: EvaluationSplit) -> dict[str, int]:
    """The number of queries for each number of targets."""
    counts = Counter(len(triplet.target_names) for triplet in split.triplets)
    return {str(targets): counts[targets] for targets in sorted(counts)}


def by_aspect(layout: Benchmark, splits: Sequence[RankedSplit]) -> dict[str, Any]:
    """The entry `aspects` of a metrics file: scores over the queries of each aspect; empty if there are none."""
    found = {}
    for ranked in splits:
        aspects = [triplet.aspects for triplet in ranked.split.triplets]
        for aspect in sorted({name for own in aspects for name in own}):
            rows = torch.tensor([aspect in own for own in aspects])
            chosen = Ranking(*(field[rows] for field in ranked.ranking))
            found[aspect] = {"queries": int(rows.sum()), **measured(layout, chosen)}
    return {"aspects": found} if found else {}
