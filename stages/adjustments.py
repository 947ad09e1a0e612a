"""The adjustments that `validate` scores beside the plain ranking, built from a pair's settings."""

from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from torch import Tensor

from spn4cir.checkpoints.published import load_composer
from spn4cir.composers.protocol import Composer
from spn4cir.config.adjustments import Hubness, Rerank, RerankByModel, RerankByWeights
from spn4cir.config.params import Validate, of_family
from spn4cir.evaluation.adjusted import Adjustment
from spn4cir.evaluation.evaluate import RankedSplit
from spn4cir.evaluation.hubness import add_bias, hub_biases
from spn4cir.evaluation.ranking import Adjust
from spn4cir.evaluation.rerank import first_candidates, rerank, score_candidates
from spn4cir.positives.listing import read_listing
from spn4cir.training.bank import open_bank
from spn4cir.training.bank_queries import compose_bank_queries, drawn_triplets, query_texts
from stages.common import Job, reranker_file
from stages.inputs import unique_images
from stages.rerankers import RERANKERS

# From the plain ranking of each split and its candidates to the second scores of the candidates.
_Score = Callable[[Sequence[RankedSplit], Sequence[Tensor]], Sequence[Tensor]]


def adjustments(job: Job, settings: Validate, composer: Composer, device: torch.device) -> dict[str, Adjustment]:
    """The adjustments of the job's settings, by name; opens their files, and runs no network yet.

    Args:
        job: data set and family.
        settings: the evaluation protocol.
        composer: the stage-2 network.
        device: where the networks run.
    """
    wanted = of_family(job.params.adjust, job.dataset, job.family, "adjust")
    found: dict[str, Adjustment] = {}
    if wanted.hubness is not None:
        found["hubness"] = _hubness(job, settings, wanted.hubness, composer, device)
    if wanted.rerank is not None:
        found["rerank"] = _rerank(job, settings, wanted.rerank, device)
    return found


def _hubness(job: Job, settings: Validate, hubness: Hubness, composer: Composer, device: torch.device) -> Adjustment:
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


def _rerank(job: Job, settings: Validate, by: Rerank, device: torch.device) -> Adjustment:
    score = _second(job, settings, by.by, device) if isinstance(by.by, RerankByWeights) else _served(job, by.by)

    def adjust(splits: Sequence[RankedSplit], _: Sequence[Tensor]) -> list[Adjust]:
        columns = [first_candidates(ranked.ranking, by.top) for ranked in splits]
        return [
            rerank(own, ranked.ranking.top_scores[:, : by.top], found, by.share)
            for own, ranked, found in zip(columns, splits, score(splits, columns), strict=True)
        ]

    return adjust


def _second(job: Job, settings: Validate, by: RerankByWeights, device: torch.device) -> _Score:
    second = load_composer(reranker_file(job.dataset, job.family, by), by.weights.family)
    workers = job.params.machine.workers
    return lambda splits, columns: score_candidates(second.to(device), splits, columns, settings, workers, device)


def _served(job: Job, by: RerankByModel) -> _Score:
    module, kind = RERANKERS["served"].split(":")
    score: _Score = getattr(import_module(module), kind)(job, by)
    return score
