"""The adjustments that `validate` scores beside the plain ranking, built from a pair's settings."""

from collections.abc import Sequence

import torch
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.adjustments import Hubness
from spn4cir.config.params import AdjustedValidate, of_family
from spn4cir.evaluation.adjusted import Adjustment
from spn4cir.evaluation.evaluate import RankedSplit
from spn4cir.evaluation.hubness import add_bias, hub_biases
from spn4cir.evaluation.ranking import Adjust
from spn4cir.positives.listing import read_listing
from spn4cir.training.bank import open_bank
from spn4cir.training.bank_queries import compose_bank_queries, drawn_triplets, query_texts
from stages.common import Job
from stages.inputs import unique_images


def adjustments(
    job: Job, settings: AdjustedValidate, composer: Composer, device: torch.device
) -> dict[str, Adjustment]:
    """The adjustments that the settings contain, by name; opens their files, and runs no network yet.

    Args:
        job: data set and family.
        settings: the protocol and the adjustments.
        composer: the stage-2 network.
        device: where the networks run.
    """
    found: dict[str, Adjustment] = {}
    if settings.hubness is not None:
        found["hubness"] = _hubness(job, settings, settings.hubness, composer, device)
    return found


def _hubness(
    job: Job, settings: AdjustedValidate, hubness: Hubness, composer: Composer, device: torch.device
) -> Adjustment:
    bank_settings = of_family(job.params.bank, job.dataset, job.family, "bank")
    bank = open_bank(job.place("bank"), composer, unique_images(job, bank_settings.images), bank_settings)
    is_listed = bank_settings.images == "generated"
    known = read_listing(job.listing_file).triplets if is_listed else job.layout().training_triplets()
    triplets = drawn_triplets(known, hubness.queries, job.params.seed)
    texts = query_texts(triplets, settings.capitalise, job.params.seed)
    workers = job.params.machine.workers

    def adjust(_: Sequence[RankedSplit], galleries: Sequence[Tensor]) -> list[Adjust]:
        batches = compose_bank_queries(composer, bank, triplets, texts, settings.batch_size, workers, device)
        return [add_bias(bias) for bias in hub_biases(composer.score, batches, galleries, hubness.beta)]

    return adjust
