"""Scores of the pretrained networks of a data set, without training."""

import sys
from collections.abc import Sequence
from typing import Any

from spn4cir.checkpoints.pretrained import load_pretrained, network_hash, pretrained_name, require_name
from spn4cir.composers.compositions import COMPOSITIONS, RuleComposer
from spn4cir.config.params import LOCAL_NETWORK, Baselines
from spn4cir.datasets.protocol import Layout
from spn4cir.evaluation.baselines import baselines_of, measure_baselines
from spn4cir.evaluation.evaluate import encode_splits
from spn4cir.evaluation.metrics_file import describe_protocol
from spn4cir.types import EvaluationSplit
from stages.common import DATA, Job
from stages.device import stage_device


def score_networks(job: Job, layout: Layout, settings: Baselines) -> dict[str, dict[str, Any]]:
    """Scores each network by each rule; encodes each image once for all rules of a network.

    Returns:
        By the network's name in the settings: the flat scores in percent by rule, and beside the rules the `protocol`
        and the `weights`. Empty if the data set has no annotated queries.

    Raises:
        InputError: a name is no name of a pretrained network, or the network cannot be loaded.
    """
    for name in settings.networks:
        require_name(name)
    splits = layout.evaluation_splits()
    if not splits:
        print(f"baselines: {job.dataset} has no annotated queries, so nothing is scored", file=sys.stderr)
        return {}
    return {name: _score(job, name, layout, splits, settings) for name in settings.networks}


def _score(
    job: Job, name: str, layout: Layout, splits: Sequence[EvaluationSplit], settings: Baselines
) -> dict[str, Any]:
    folder = DATA / "models" / job.dataset / "baselines"
    is_local = name.startswith(LOCAL_NETWORK)
    known = pretrained_name(f"{LOCAL_NETWORK}{folder / name.removeprefix(LOCAL_NETWORK)}" if is_local else name)
    assert known is not None, "the name was checked"
    device = stage_device(job)
    composer = RuleComposer(*load_pretrained(known), COMPOSITIONS[0]).eval().to(device)
    images = encode_splits(composer, splits, settings, job.params.machine.workers, device)
    scores = measure_baselines(baselines_of(composer), layout, splits, images, settings, device)
    return {
        **scores,
        "protocol": describe_protocol(layout, settings, composer),
        "weights": {"name": name, "sha256": network_hash(known, composer)},
    }
