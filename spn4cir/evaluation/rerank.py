"""Reranking: the first candidates of the plain ranking in the order of a second network."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery, encode_gallery, report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import ScoringSettings
from spn4cir.evaluation.evaluate import RankedSplit, compose_queries
from spn4cir.evaluation.ranking import Adjust, Ranking, query_blocks
from spn4cir.types import Gallery

_LABEL = "encode candidates"


def first_candidates(ranking: Ranking, k: int) -> Int[Tensor, "queries k"]:
    """Columns of the candidates to rerank, in plain order, padded with -1.

    These are the first k without those that tie with candidate k + 1: a target among those ranks below k, because ties
    count against it, and keeps its place. So a target is reranked if and only if it is among the first k.
    """
    columns, scores = ranking.top[:, :k], ranking.top_scores[:, :k]
    is_above = scores > (ranking.top_scores[:, k, None] if ranking.top_scores.shape[1] > k else -torch.inf)
    return columns.masked_fill(~is_above, -1)


def rerank(
    columns: Int[Tensor, "queries k"],
    plain: Float[Tensor, "queries k"],
    second: Float[Tensor, "queries k"],
    share: float,
) -> Adjust:
    """An adjustment that reorders the candidates by share * second + (1 - share) * plain, both standardised.

    Candidates of equal sums keep the plain order, and tie only if their plain scores are equal too. The reordered
    candidates rank above all others, which keep their places.

    Args:
        columns: columns of the candidates, in plain order, padded with -1.
        plain: plain scores of the candidates.
        second: scores of the candidates by the second network.
        share: share of the second network.
    """
    kept = columns >= 0
    blended = share * standardise(second, kept)
    if share < 1:
        blended += (1 - share) * standardise(plain, kept)
    order = blended.masked_fill(~kept, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranked = torch.stack([part.double().gather(1, order) for part in (blended, plain)])
    levels = torch.zeros(columns.shape)
    levels[:, 1:] = (ranked[..., 1:] != ranked[..., :-1]).any(dim=0).cumsum(dim=1)
    above = torch.empty(columns.shape).scatter_(1, order, columns.shape[1] - levels)

    def adjust(scores: Float[Tensor, "block gallery"], rows: slice) -> None:
        query, place = kept[rows].nonzero(as_tuple=True)
        best = scores.max(dim=1).values[query.to(scores.device)]
        chosen = columns[rows][query, place].to(scores.device)
        scores[query.to(scores.device), chosen] = best + above[rows][query, place].to(scores)

    return adjust


def standardise(scores: Float[Tensor, "queries k"], kept: Bool[Tensor, "queries k"]) -> Float[Tensor, "queries k"]:
    """Scores of each query with mean 0 and deviation 1 over the kept candidates; 0 if they are all equal."""
    count = kept.sum(dim=1, keepdim=True).clamp(min=1)
    mean = scores.double().masked_fill(~kept, 0.0).sum(dim=1, keepdim=True) / count
    centred = (scores.double() - mean).masked_fill(~kept, 0.0)
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    # Rounding of the mean leaves a deviation of equal scores that is not quite 0.
    is_flat = deviation <= 1e-12 * mean.abs()
    return torch.where(is_flat, 0.0, centred / deviation)


def score_candidates(
    composer: Composer,
    splits: Sequence[RankedSplit],
    columns: Sequence[Int[Tensor, "queries k"]],
    settings: ScoringSettings,
    workers: int,
    device: torch.device,
) -> list[Float[Tensor, "queries k"]]:
    """Scores of the candidates of each split by a network, on the CPU; encodes candidates and references once.

    Args:
        composer: the second network, on `device`. It reads the texts of the plain ranking.
        splits: the plain ranking.
        columns: candidates of each query, padded with -1; the scores of the padding are arbitrary.
        settings: batch size.
        workers: processes that decode images.
        device: where the network runs.
    """
    images = _encode(composer, splits, columns, settings, workers, device)
    found = []
    for ranked, own in zip(splits, columns, strict=True):
        report_long_texts(composer, ranked.texts, f"split '{ranked.split.name}', rerank")
        triplets = ranked.split.triplets
        queries = compose_queries(composer, triplets, ranked.texts, images, settings.batch_size, device)
        used, place = torch.unique(own.clamp(min=0), return_inverse=True)
        targets = images.targets([ranked.names[column] for column in used.tolist()]).to(device)
        with torch.inference_mode():
            parts = [
                composer.score(queries[rows], targets).gather(1, place[rows].to(device)).float().cpu()
                for rows in query_blocks(len(queries), len(targets))
            ]
        found.append(torch.cat(parts))
    return found


def _encode(
    composer: Composer,
    splits: Sequence[RankedSplit],
    columns: Sequence[Int[Tensor, "queries k"]],
    settings: ScoringSettings,
    workers: int,
    device: torch.device,
) -> EncodedGallery:
    """Features of the candidates and the references of all splits, each image once."""
    paths: dict[str, Path] = {}
    references: set[str] = set()
    for ranked, own in zip(splits, columns, strict=True):
        asked = {triplet.reference_name for triplet in ranked.split.triplets}
        names = asked | {ranked.names[column] for column in torch.unique(own.clamp(min=0)).tolist()}
        paths |= {name: ranked.split.places[name] for name in sorted(names)}
        references |= asked
    gallery = Gallery(tuple(paths), tuple(paths.values()))
    rows = {gallery.index[name] for name in references}
    return encode_gallery(composer, gallery, rows, settings.batch_size, workers, device, _LABEL)
