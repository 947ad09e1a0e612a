"""Terms of the stage-2 loss in which the queries of a batch compete for a target, instead of the images for a query."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def target_to_query_info_nce(
    scores: Float[Tensor, "queries targets"], target: Int[Tensor, " queries"], temperature: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Mean of -log softmax over the queries of a batch, for the target of each of them.

    L = -1/B sum_i log(exp(s_ii / tau) / sum_j exp(s_ji / tau)), where s_ji is the score of query j with the target of
    query i. Another query with the same target is no candidate.

    Args:
        scores: score of each query with the target of each query; both axes have the order of the batch.
        target: row of each query's target among the unique images.
        temperature: tau, above 0.
    """
    others = (target[:, None] == target).fill_diagonal_(False)
    logits = (scores.T.float() / temperature).masked_fill(others, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(target), device=scores.device))
