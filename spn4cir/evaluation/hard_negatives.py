"""Hard negatives: images like the reference, and images that match the text alone, which rank above the target."""

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
    """How many images of each kind count as hard negatives of a query.

    Attributes:
        lookalikes: those most similar to its reference (`picture_similarity`).
        text_matches: the best by its text alone; at most as many as a ranking lists.
    """

    lookalikes: int
    text_matches: int


class Counts(NamedTuple):
    """What ranks above the target of each query, ties included.

    Attributes:
        rank: of the target among what does not answer the query, 0 for the best place.
        above: how many hard negatives of each kind.
        either: how many images that are of one kind or of both.
        chance: the probability, by kind, that of as many images drawn from the ranking one at least lies above.
    """

    rank: Int[Tensor, " queries"]
    above: Mapping[str, Int[Tensor, " queries"]]
    either: Int[Tensor, " queries"]
    chance: Mapping[str, Float[Tensor, " queries"]]


def picture_similarity(
    composer: Composer, pictures: Float[Tensor, "pictures ..."], targets: Float[Tensor, "gallery ..."]
) -> Float[Tensor, "pictures gallery"]:
    """How alike pictures are by their target features, through the score of the family alone.

    Each unit vector of a picture's features is scored as a query would be, and the scores are averaged. Of a family
    with one vector a picture that is the cosine; of one with tokens the mean, over the picture's tokens, of each one's
    best match among the candidate's. A picture has 1 with itself, and no candidate has more.
    """
    vectors = pictures.reshape(len(pictures), -1, pictures.shape[-1])
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

    Hard negatives are candidates of the ranking that do not answer the query: neither the target nor another one. A
    reference that the protocol removes is none of them, one that it keeps is its own nearest look-alike.

    Args:
        composer: the network, on `device`.
        ranked: its ranking of the whole queries.
        by_text: its ranking by the text alone.
        images: the encoded galleries.
        nearest: how many images count.
        settings: the protocol.
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
        lambda pictures, candidates: picture_similarity(composer, pictures, candidates),
        images.target[images.rows(list(unique))].to(targets.device),
        targets,
        target_index=torch.full((len(unique),), -1),
        top=count,
    )
    return ranking.top[[unique[name] for name in names]]


def _others(
    top: Int[Tensor, "queries top"], barred: Int[Tensor, "queries barred"], count: int
) -> Int[Tensor, "queries count"]:
    """The first so many columns that are not barred, -1 where there are fewer."""
    out = (top[:, :, None] == barred[:, None, :]).any(dim=2)
    order = out.sort(dim=1, stable=True).indices[:, :count]
    return top.gather(1, order).masked_fill(out.gather(1, order), -1)


def _repeated(columns: Int[Tensor, "queries columns"]) -> Bool[Tensor, "queries columns"]:
    """Whether a column stands further left in its row too."""
    return (columns[:, :, None] == columns[:, None, :]).tril(-1).any(dim=2)


def _chance(
    rank: Int[Tensor, " queries"], candidates: Int[Tensor, " queries"], drawn: Int[Tensor, " queries"]
) -> Float[Tensor, " queries"]:
    """The probability that of `drawn` of the candidates, without replacement, one at least is of the first `rank`."""
    turn = torch.arange(int(drawn.max()), dtype=torch.float64)
    below = ((candidates - rank)[:, None] - turn).clamp(min=0) / (candidates[:, None] - turn).clamp(min=1)
    return 1 - below.masked_fill(turn >= drawn[:, None], 1.0).prod(dim=1)


def summarise(counts: Sequence[Counts], nearest: Nearest, k: int) -> dict[str, Any]:
    """What the metrics file says of the queries of all splits together.

    Args:
        counts: of each split.
        nearest: how many images of each kind counted.
        k: a target beyond the first k is a failure.

    Returns:
        `k` and the number of `failures`. For each kind, the number of `images`; in percent, the `queries` with one or
        more of them above the target, how many it would be of as many images drawn `by_chance`, and the `failures` that
        would be none were these images not in the gallery; and the mean number above, `mean_above`. Under `either` the
        failures that would be none without the images of both kinds.
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
