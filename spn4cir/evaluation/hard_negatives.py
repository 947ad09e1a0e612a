"""Hard negatives: images similar to the reference, or matching the text alone, that rank above the target."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.evaluation.evaluate import RankedSplit, compose_queries, padded
from spn4cir.evaluation.ranking import Ranking, above_target, rank_gallery


class Nearest(NamedTuple):
    """The number of images of each kind that count as hard negatives of a query.

    Attributes:
        lookalikes: images most similar to the reference (`image_similarity`).
        text_matches: best images for the text alone; at most as many as a ranking lists.
    """

    lookalikes: int
    text_matches: int


class Counts(NamedTuple):
    """Hard negatives that rank above the target of each query, ties included.

    Attributes:
        rank: rank of the target among the candidates that do not answer the query; 0 is the best.
        above: number of hard negatives of each kind above the target.
        either: number of images above the target that are of one kind or both.
        chance: by kind, the probability that at least one of as many images, drawn from the ranking, ranks above the
            target.
    """

    rank: Int[Tensor, " queries"]
    above: Mapping[str, Int[Tensor, " queries"]]
    either: Int[Tensor, " queries"]
    chance: Mapping[str, Float[Tensor, " queries"]]


def image_similarity(
    composer: Composer, images: Float[Tensor, "images ..."], targets: Float[Tensor, "gallery ..."]
) -> Float[Tensor, "images gallery"]:
    """Similarity of images by their target features, computed with the score of the family.

    Each unit vector of an image's target features is scored like a query, and the scores are averaged. For a family
    with one vector for each image this is the cosine. For a family with several tokens it is the mean, over the tokens
    of the image, of the best match among the tokens of the candidate. The similarity of an image with itself is 1, the
    maximum.
    """
    vectors = images.reshape(len(images), -1, images.shape[-1])
    total = composer.score(vectors[:, 0], targets)
    for token in range(1, vectors.shape[1]):
        total += composer.score(vectors[:, token], targets)
    return total / vectors.shape[1]


def count_above(
    composer: Composer,
    ranked: RankedSplit,
    by_text: Ranking,
    images: EncodedGallery,
    nearest: Nearest,
    settings: Validate,
    device: torch.device,
) -> Counts:
    """Counts the hard negatives that rank above the target of each query of a split.

    Hard negatives are candidates that do not answer the query: they are not among its targets. A reference that the
    protocol removes from the ranking is excluded; a reference that it keeps is its own nearest look-alike.

    Args:
        composer: the network, on `device`.
        ranked: ranking of the queries.
        by_text: ranking of the text alone.
        images: features of the galleries.
        nearest: number of images of each kind.
        settings: evaluation protocol.
        device: where the network runs.
    """
    triplets, column = ranked.split.triplets, {name: position for position, name in enumerate(ranked.names)}
    target = torch.tensor([column[str(triplet.target_name)] for triplet in triplets])
    reference = torch.tensor([column.get(triplet.reference_name, -1) for triplet in triplets])
    removed = reference if settings.remove_reference else torch.full_like(reference, -1)
    answers = padded([[column[name] for name in triplet.target_names] for triplet in triplets])
    barred = torch.cat([answers, removed[:, None]], dim=1)
    targets = images.target[images.rows(ranked.names)].to(device)
    names = [triplet.reference_name for triplet in triplets]
    with torch.inference_mode():
        like = _most_alike(composer, images, names, targets, nearest.lookalikes + barred.shape[1])
        kinds = {
            "lookalikes": _others(like, barred, nearest.lookalikes),
            "text_matches": _others(by_text.top, barred, nearest.text_matches),
        }
        queries = compose_queries(composer, triplets, ranked.texts, images, settings.batch_size, device)
        columns = torch.cat([*kinds.values(), answers[:, 1:]], dim=1)
        above = above_target(composer.score, queries, targets, target, columns)
    ends = list(accumulate(own.shape[1] for own in kinds.values()))
    *parts, others = above.tensor_split(ends, dim=1)
    rank, candidates = ranked.ranking.rank - others.sum(dim=1), len(ranked.names) - (barred >= 0).sum(dim=1)
    chance = {kind: _chance(rank, candidates, (own >= 0).sum(dim=1)) for kind, own in kinds.items()}
    counts = {kind: part.sum(dim=1) for kind, part in zip(kinds, parts, strict=True)}
    either = (above & ~_repeated(columns))[:, : ends[-1]].sum(dim=1)
    return Counts(rank, counts, either, chance)


def _most_alike(
    composer: Composer, images: EncodedGallery, names: Sequence[str], targets: Tensor, count: int
) -> Int[Tensor, "names count"]:
    """Columns of the candidates most similar to each image, best first; each image is compared once."""
    unique = {name: row for row, name in enumerate(dict.fromkeys(names))}
    ranking = rank_gallery(
        lambda own, candidates: image_similarity(composer, own, candidates),
        images.target[images.rows(list(unique))].to(targets.device),
        targets,
        target_index=torch.full((len(unique),), -1),
        top=count,
    )
    return ranking.top[[unique[name] for name in names]]


def _others(
    top: Int[Tensor, "queries top"], barred: Int[Tensor, "queries barred"], count: int
) -> Int[Tensor, "queries count"]:
    """The first `count` columns that are not barred, padded with -1."""
    out = (top[:, :, None] == barred[:, None, :]).any(dim=2)
    order = out.sort(dim=1, stable=True).indices[:, :count]
    return top.gather(1, order).masked_fill(out.gather(1, order), -1)


def _repeated(columns: Int[Tensor, "queries columns"]) -> Bool[Tensor, "queries columns"]:
    """Whether the same column occurs further left in its row."""
    return (columns[:, :, None] == columns[:, None, :]).tril(-1).any(dim=2)


def _chance(
    rank: Int[Tensor, " queries"], candidates: Int[Tensor, " queries"], drawn: Int[Tensor, " queries"]
) -> Float[Tensor, " queries"]:
    """The probability that a draw of `drawn` candidates, without replacement, contains one of the first `rank`."""
    turn = torch.arange(int(drawn.max()), dtype=torch.float64)
    below = ((candidates - rank)[:, None] - turn).clamp(min=0) / (candidates[:, None] - turn).clamp(min=1)
    return 1 - below.masked_fill(turn >= drawn[:, None], 1.0).prod(dim=1)


def summarise(counts: Sequence[Counts], nearest: Nearest, k: int) -> dict[str, Any]:
    """Summarises the counts of all splits for the metrics file.

    Args:
        counts: counts of each split.
        nearest: number of images of each kind.
        k: a target beyond the first k is a failure.

    Returns:
        `k` and the number of `failures`. For each kind: the number of `images`; the share of `queries` with at least
        one of them above the target; `by_chance`, the expected share for as many random images; the share of
        `failures` that would succeed without these images in the gallery; and `mean_above`, the mean number above the
        target. Under `either`, the share of failures that would succeed without the images of both kinds. Shares are
        in percent.
    """
    rank = torch.cat([part.rank for part in counts])
    failed = rank >= k

    def share(chosen: Bool[Tensor, " queries"], among: int) -> float:
        return 100.0 * int(chosen.sum()) / max(among, 1)

    def freed(above: Int[Tensor, " queries"]) -> float:
        return share(failed & (rank - above < k), int(failed.sum()))

    found: dict[str, Any] = {"k": k, "failures": int(failed.sum())}
    for kind, images in nearest._asdict().items():
        above = torch.cat([part.above[kind] for part in counts])
        found[kind] = {
            "images": images,
            "queries": share(above > 0, len(above)),
            "by_chance": 100.0 * float(torch.cat([part.chance[kind] for part in counts]).mean()),
            "mean_above": float(above.double().mean()),
            "failures": freed(above),
        }
    return found | {"either": {"failures": freed(torch.cat([part.either for part in counts]))}}
