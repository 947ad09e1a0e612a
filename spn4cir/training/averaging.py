"""Averages of the weights before and after training, of which the best by its validation scores is kept."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spn4cir.datasets.protocol import Scores


def copied(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The current values of parameters."""
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def interpolate(
    parameters: Sequence[nn.Parameter], before: Sequence[Tensor], after: Sequence[Tensor], share: float
) -> None:
    """Sets parameters to (1 - share) * before + share * after; exactly `after` for a share of 1."""
    for parameter, start, end in zip(parameters, before, after, strict=True):
        parameter.copy_(torch.lerp(start, end, share))


def keep_best_share(
    parameters: Sequence[nn.Parameter],
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    shares: Sequence[float],
    evaluate: Callable[[], Scores],
    selection: str,
) -> list[dict[str, float]]:
    """Scores the average of each share and leaves the parameters at the best one; the first of equal scores is kept.

    Source: WiSE-FT, Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903.

    Args:
        parameters: the trained parameters.
        before: their values before training.
        after: their values after training.
        shares: shares of `after`.
        evaluate: returns the scores of the network with the current parameters.
        selection: name of the score that selects.

    Returns:
        For each share `share`, `score` (the score that selects), every score in percent, and whether it is `kept` (1
        or 0).
    """
    rows: list[dict[str, float]] = []
    for share in shares:
        interpolate(parameters, before, after, share)
        scores = evaluate()
        rows.append({"share": share, "score": scores[selection], **scores, "kept": 0})
    best = max(rows, key=lambda row: row["score"])
    best["kept"] = 1
    interpolate(parameters, before, after, best["share"])
    found = ", ".join(f"{row['score']:.2f} with {row['share']:g}" for row in rows)
    print(f"averaging: {selection} {found} of the trained weights: {best['share']:g} is kept", flush=True)
    return rows
