"""Hubness: some images score high for many queries. A bias for each image lowers them.

The inverted softmax over training queries q' is p(q, g) = exp(beta * s(q, g)) / sum over q' of exp(beta * s(q', g)), so
log(p) / beta = s(q, g) + bias(g).

Sources: Smith et al., "Offline bilingual word vectors, orthogonal transformations and the inverted softmax", ICLR 2017,
arXiv 1702.03859; Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022, arXiv 2112.12777.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spn4cir.evaluation.ranking import Adjust, query_blocks


def hub_biases(
    score: Callable[[Tensor, Tensor], Float[Tensor, "queries gallery"]],
    batches: Iterable[Float[Tensor, "queries dim"]],
    galleries: Sequence[Tensor],
    beta: float,
) -> list[Float[Tensor, " gallery"]]:
    """The bias -log(sum over the queries of exp(beta * s(query, image))) / beta of each image of each gallery.

    Scores are computed block by block, so the memory does not depend on the number of queries.

    Args:
        score: similarity of queries with all candidates.
        batches: training queries, unit norm; read once.
        galleries: features of the candidates of each split.
        beta: inverse temperature; the larger, the fewer queries decide.
    """
    totals = [torch.full((len(targets),), -torch.inf, device=targets.device) for targets in galleries]
    with torch.inference_mode():
        for queries in batches:
            for number, targets in enumerate(galleries):
                for rows in query_blocks(len(queries), len(targets)):
                    block = score(queries[rows], targets).float() * beta
                    totals[number] = torch.logaddexp(totals[number], block.logsumexp(dim=0))
    return [-total / beta for total in totals]


def add_bias(bias: Float[Tensor, " gallery"]) -> Adjust:
    """An adjustment that adds the bias of each image to its scores."""

    def adjust(scores: Float[Tensor, "block gallery"], _: slice) -> None:
        scores += bias

    return adjust
