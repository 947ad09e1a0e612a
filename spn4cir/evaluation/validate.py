"""Validation of the stage-2 weights, with the stage-1 weights for comparison."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch

from spn4cir.composers.encoding import tensors_hash
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.datasets.protocol import Benchmark, Submittable
from spn4cir.evaluation.adjusted import Adjustment, evaluate_adjusted
from spn4cir.evaluation.evaluate import Evaluation, encode_splits, evaluate
from spn4cir.evaluation.shortcuts import Probe, ShortcutScores, measure_shortcuts, wordings_of
from spn4cir.evaluation.submission import Predictions, list_best


class Validated(NamedTuple):
    """Results of a validation.

    Attributes:
        after: scores of the stage-2 network.
        before: scores of the stage-1 network.
        shortcuts: shortcut scores of the stage-2 network; None if they were not requested.
        submission: content of each file for the test server by metric, predicted by the stage-2 network; empty if there
            is no server.
        adjusted: adjusted scores of the stage-2 network, by the name of the adjustment.
    """

    after: Evaluation
    before: Evaluation
    shortcuts: ShortcutScores | None
    submission: dict[str, Predictions]
    adjusted: dict[str, Evaluation]


def validate_both(
    after: Composer,
    before: Composer,
    layout: Benchmark,
    settings: Validate,
    workers: int,
    device: torch.device,
    probe: Probe | None = None,
    served: Submittable | None = None,
    adjustments: Mapping[str, Adjustment] = MappingProxyType({}),
    stored: Path | None = None,
) -> Validated:
    """Scores the stage-2 and the stage-1 network.

    The features of the galleries are read or encoded once, because stage 2 does not change the image side. If its
    tensors differ all the same, as with weights from another source, each network has features of its own.

    Args:
        after: the stage-2 network.
        before: the stage-1 network.
        layout: the benchmark.
        settings: evaluation protocol.
        workers: processes that decode images.
        device: where the networks run.
        probe: the shortcuts to measure with the stage-2 network; None: none.
        served: the layout again, if the stage-2 network is to answer its test split for a server; None: it is not.
        adjustments: changes of the stage-2 network's scores, each ranked beside the plain scores, by name.
        stored: stored features of the galleries, for the networks that they fit; None: nothing is stored.
    """
    splits = layout.evaluation_splits()
    wordings = wordings_of(splits, settings.capitalise, probe) if probe else {}
    tests = [served.test_split()] if served else []
    images = encode_splits(after.to(device), [*splits, *tests], settings, workers, device, stored)
    submission = list_best(after, tests[0], served.submission, images, settings, device) if served else {}
    second = evaluate(after, layout, splits, images, settings, device)
    shortcuts = None
    if probe is not None:
        shortcuts = measure_shortcuts(after, layout, second, images, settings, wordings, probe.nearest, device)
    adjusted = {
        name: evaluate_adjusted(after, layout, second, images, settings, device, adjustment)
        for name, adjustment in adjustments.items()
    }
    if tensors_hash(after.frozen_tensors()) != tensors_hash(before.frozen_tensors()):
        del images
        images = encode_splits(before.to(device), splits, settings, workers, device, stored)
    first = evaluate(before.to(device), layout, splits, images, settings, device)
    return Validated(second, first, shortcuts, submission, adjusted)
