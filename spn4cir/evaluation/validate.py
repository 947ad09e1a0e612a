"""Validation of weights: stage 2, and stage 1 beside it."""

from typing import NamedTuple

import torch

from spn4cir.composers.encoding import tensors_hash
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.datasets.protocol import Benchmark, Submittable
from spn4cir.evaluation.evaluate import Evaluation, encode_splits, evaluate
from spn4cir.evaluation.shortcuts import Probe, ShortcutScores, measure_shortcuts, wordings_of
from spn4cir.evaluation.submission import Predictions, list_best


class Validated(NamedTuple):
    """What a validation found.

    Attributes:
        after: scores of the stage-2 network.
        before: scores of the stage-1 network.
        shortcuts: of the stage-2 network; None where none were asked for.
        submission: of the stage-2 network, the content of each file for the test server, by metric; empty where there
            is no server.
    """

    after: Evaluation
    before: Evaluation
    shortcuts: ShortcutScores | None
    submission: dict[str, Predictions]


def validate_both(
    after: Composer,
    before: Composer,
    layout: Benchmark,
    settings: Validate,
    workers: int,
    device: torch.device,
    probe: Probe | None = None,
    served: Submittable | None = None,
) -> Validated:
    """Scores of the stage-2 and of the stage-1 network; with a probe the shortcuts of the former.

    With `served`, the layout once more where its test split is to be answered too, also the former's submission.
    The galleries are encoded once: stage 2 leaves the image side as it is. Where its tensors differ all the same, as
    with weights from elsewhere, each network encodes for itself.
    """
    splits = layout.evaluation_splits()
    wordings = wordings_of(splits, settings.capitalise, probe) if probe else {}
    tests = [served.test_split()] if served else []
    images = encode_splits(after.to(device), [*splits, *tests], settings, workers, device)
    submission = list_best(after, tests[0], served.submission, images, settings, device) if served else {}
    second = evaluate(after, layout, splits, images, settings, device)
    shortcuts = None
    if probe is not None:
        shortcuts = measure_shortcuts(after, layout, second, images, settings, wordings, probe.nearest, device)
    if tensors_hash(after.frozen_tensors()) != tensors_hash(before.frozen_tensors()):
        del images
        images = encode_splits(before.to(device), splits, settings, workers, device)
    first = evaluate(before.to(device), layout, splits, images, settings, device)
    return Validated(second, first, shortcuts, submission)
