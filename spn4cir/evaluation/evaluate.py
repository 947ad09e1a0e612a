"""Scores a network on the validation queries of a layout, and records the protocol with the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery, encode_gallery, report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import ScoringSettings
from spn4cir.datasets.protocol import Benchmark, Scores
from spn4cir.datasets.texts import evaluation_text
from spn4cir.device import memory_errors
from spn4cir.errors import InputError
from spn4cir.evaluation.metrics import map_at_k, recall_of_ranks
from spn4cir.evaluation.ranking import Adjust, Ranking, rank_gallery
from spn4cir.evaluation.stored_gallery import images_to_encode, open_gallery
from spn4cir.progress import progress
from spn4cir.types import EvaluationSplit, Triplet

TOP = 50


@dataclass(frozen=True)
class RankedSplit:
    """The queries of a split with their ranking.

    Attributes:
        split: queries and gallery.
        names: names of the gallery in the order of the columns of `ranking` (sorted).
        texts: the text of each query, as the network read it.
        ranking: ranks and top lists.
    """

    split: EvaluationSplit
    names: tuple[str, ...]
    texts: tuple[str, ...]
    ranking: Ranking

    def top_names(self, query: int) -> list[str]:
        """Names of the best candidates of a query, best first, without a removed reference."""
        columns, scores = self.ranking.top[query].tolist(), self.ranking.top_scores[query].tolist()
        return [self.names[c] for c, score in zip(columns, scores, strict=True) if score > -torch.inf]

    def candidates(self, query: int) -> int:
        """The number of candidates of a query."""
        split = self.split
        return len(split.triplets[query].subset_names if split.own_galleries else split.gallery)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a network.

    Attributes:
        scores: the flat scores of the layout, in percent.
        alternatives: scores over each alternative gallery, by its name.
        splits: the ranking of each split.
    """

    scores: Scores
    alternatives: dict[str, Scores]
    splits: tuple[RankedSplit, ...]


def encode_splits(
    composer: Composer,
    splits: Sequence[EvaluationSplit],
    settings: ScoringSettings,
    workers: int,
    device: torch.device,
    stored: Path | None = None,
) -> EncodedGallery:
    """Features of every image of the splits: those of the folder `stored` if they fit, else each is encoded once.

    Reference features are kept only for the references of queries.

    Args:
        composer: the network, on `device`.
        splits: queries and galleries.
        settings: batch size.
        workers: processes that decode images.
        device: where the network runs.
        stored: what `store_gallery` wrote; None: nothing is stored.

    Raises:
        InputError: there is no split, an image cannot be decoded, or a stored file is damaged.
    """
    gallery, references = images_to_encode(splits)
    found = open_gallery(stored, composer, gallery, references) if stored else None
    return found or encode_gallery(
        composer, gallery, references, settings.batch_size, workers, device, "encode gallery"
    )


def compose_queries(
    composer: Composer,
    triplets: Sequence[Triplet],
    texts: Sequence[str],
    images: EncodedGallery,
    batch_size: int,
    device: torch.device,
) -> Float[Tensor, "queries dim"]:
    """Composes unit-norm queries, on the device.

    Raises InputError if the features are not finite, or the GPU cannot hold a batch.
    """
    rows = images.rows([triplet.reference_name for triplet in triplets])
    parts = []
    starts = range(0, len(rows), batch_size)
    for start in progress(starts, len(starts), "compose queries", "batch"):
        block = slice(start, start + batch_size)
        with torch.inference_mode(), memory_errors("compose queries", batch_size):
            reference = images.references(rows[block]).to(device)
            parts.append(composer.compose(reference, texts[block]).float())
    queries = torch.cat(parts)
    if not torch.isfinite(queries).all():
        raise InputError("the network's features are not finite: its weights are broken; train or download them again")
    return queries


def rank_split(
    composer: Composer, split: EvaluationSplit, images: EncodedGallery, settings: ScoringSettings, device: torch.device
) -> tuple[RankedSplit, dict[str, Ranking]]:
    """Ranks the queries of a split over its gallery and over each alternative gallery."""
    if not split.triplets:
        raise InputError(f"split '{split.name}': no query is left; check the captions file and the image folder")
    texts = tuple(evaluation_text(triplet.captions, settings.capitalise) for triplet in split.triplets)
    report_long_texts(composer, texts, f"split '{split.name}'")
    queries = compose_queries(composer, split.triplets, texts, images, settings.batch_size, device)
    names = tuple(sorted(split.gallery.names))
    ranking = rank_queries(
        composer, queries, split.triplets, names, images, settings, device, within_subsets=split.own_galleries
    )
    alternatives = {
        name: rank_queries(composer, queries, split.triplets, tuple(sorted(gallery.names)), images, settings, device)
        for name, gallery in split.alternatives.items()
    }
    return RankedSplit(split, names, texts, ranking), alternatives


def rank_queries(
    composer: Composer,
    queries: Float[Tensor, "queries dim"],
    triplets: Sequence[Triplet],
    names: tuple[str, ...],
    images: EncodedGallery,
    settings: ScoringSettings,
    device: torch.device,
    within_subsets: bool = False,
    adjust: Adjust | None = None,
) -> Ranking:
    """Ranks queries over a gallery.

    Args:
        composer: the network that scores.
        queries: unit norm, one for each triplet.
        triplets: reference, targets and subset of each query.
        names: names of the gallery, sorted.
        images: features of the gallery.
        settings: decides whether the reference is removed from the ranking.
        device: where the scores are computed.
        within_subsets: whether the candidates of a query are only its subset.
        adjust: changes the scores before they are ranked; see `rank_gallery`.
    """
    column = {name: position for position, name in enumerate(names)}
    reference = torch.tensor([column.get(triplet.reference_name, -1) for triplet in triplets])
    target = torch.tensor([column.get(triplet.target_name or "", -1) for triplet in triplets])
    others = padded([[column[name] for name in t.other_targets if name in column] for t in triplets])
    with torch.inference_mode():
        return rank_gallery(
            composer.score,
            queries,
            images.targets(names).to(device),
            target_index=target,
            removed_index=reference if settings.remove_reference else None,
            subset_index=subset_columns(
                triplets, column, with_reference=within_subsets and not settings.remove_reference
            ),
            top=TOP + 1,
            other_index=others if others.shape[1] else None,
            within_subsets=within_subsets,
            adjust=adjust,
        )


def subset_columns(
    triplets: Sequence[Triplet], column: Mapping[str, int], with_reference: bool = False
) -> Int[Tensor, "queries members"]:
    """Columns of each query's subset, padded with -1.

    The reference, which CIRR leaves out, is included only `with_reference`.
    """
    return padded(
        [
            [column[n] for n in triplet.subset_names if n in column and (with_reference or n != triplet.reference_name)]
            for triplet in triplets
        ]
    )


def padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, "rows width"]:
    """Lists of different lengths as one tensor, padded with -1."""
    width = max(map(len, rows), default=0)
    filled = [[*row, *[-1] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).reshape(len(rows), width)


def evaluate(
    composer: Composer,
    layout: Benchmark,
    splits: Sequence[EvaluationSplit],
    images: EncodedGallery,
    settings: ScoringSettings,
    device: torch.device,
) -> Evaluation:
    """Scores a network on all splits. Raises InputError for a split without queries."""
    ranked, others = zip(*(rank_split(composer, s, images, settings, device) for s in splits), strict=True)
    scores = layout.summarise({r.split.name: measured(layout, r.ranking) for r in ranked})
    alternatives = {
        name: layout.summarise(
            {r.split.name: measured(layout, other[name]) for r, other in zip(ranked, others, strict=True)}
        )
        for name in others[0]
    }
    return Evaluation(scores, alternatives, ranked)


def measured(layout: Benchmark, ranking: Ranking) -> Scores:
    """Recalls and mean average precisions of one split at the ranks of the layout, in percent."""
    whole = {f"recall_at{k}": recall_of_ranks(ranking.rank, k) for k in layout.protocol.recall_ks}
    subset = {f"recall_subset_at{k}": recall_of_ranks(ranking.subset_rank, k) for k in layout.protocol.subset_ks}
    precision = {f"map_at{k}": map_at_k(ranking.target_ranks, k) for k in layout.protocol.map_ks}
    return {**whole, **subset, **precision}
