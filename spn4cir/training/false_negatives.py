"""False negatives: images so similar to a query's target that they are no negatives of the query."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Above, Quantile
from spn4cir.training.bank import Bank
from spn4cir.types import Triplet

# Vectors that are compared with the bank in one product: a target of several tokens, or several targets.
_VECTORS = 32
_WHOLE = slice(None)


class FalseNegatives:
    """The rows of the bank that leave the denominator of each query.

    The similarity of image j to target y is the score of the target feature of y as a query: the cosine of both
    features, or for several tokens the mean over y's tokens of the largest dot product with j's tokens. The reference,
    the target and the images of the query's group are always kept.

    The rows of a target are computed when it first occurs, and are then kept. Targets are compared in fixed groups, so
    that the rows do not depend on the order of the batches.

    Args:
        triplets: the training triplets.
        bank: features of the images that the triplets name.
        rule: which similarities are too large: those above a value, or above a quantile of those of the target.
        targets: the bank's target features on the device of the training.
    """

    def __init__(self, triplets: Sequence[Triplet], bank: Bank, rule: Above | Quantile, targets: Tensor) -> None:
        self._rule = rule
        self._targets = targets
        self._target_rows = [bank.row[str(each.target_name)] for each in triplets]
        names = ((each.reference_name, str(each.target_name), *each.subset_names) for each in triplets)
        self._kept = [torch.tensor([bank.row[name] for name in each if name in bank.row]) for each in names]
        size = max(1, _VECTORS // (targets[0].numel() // targets.shape[-1]))
        self._group: dict[int, Tensor] = {}
        rows = sorted(set(self._target_rows))
        for start in range(0, len(rows), size):
            group = rows[start : start + size]
            self._group |= dict.fromkeys(group, torch.tensor(group))
        self._similar: dict[int, Int[Tensor, " similar"]] = {}

    def in_bank(self, composer: Composer, chosen: Int[Tensor, " batch"]) -> Int[Tensor, "2 pairs"]:
        """Returns pairs of a query and a row of the bank.

        Args:
            composer: the network whose scores compare the targets.
            chosen: positions of the batch's triplets.
        """
        rows = self._rows(composer, chosen)
        queries = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(each) for each in rows]))
        return torch.stack([queries, torch.cat(rows).long()])

    def in_batch(
        self, composer: Composer, chosen: Int[Tensor, " batch"], own: slice = _WHOLE
    ) -> Int[Tensor, "2 pairs"]:
        """Returns pairs of a query and the position of another triplet, whose target leaves the denominator.

        Another triplet with the target of the query is among them: in the batch, its target is a copy of the query's.

        Args:
            composer: the network whose scores compare the targets.
            chosen: positions of the batch's triplets.
            own: the part of the batch whose queries are compared; pairs count them from 0.
        """
        targets = torch.tensor([self._target_rows[position] for position in chosen.tolist()])
        rows = self._rows(composer, chosen[own])
        similar = [torch.isin(targets, each) | (targets == its) for each, its in zip(rows, targets[own], strict=True)]
        found = torch.stack(similar)
        found.diagonal(offset=own.start or 0).fill_(False)
        return found.nonzero().T

    def _rows(self, composer: Composer, chosen: Int[Tensor, " batch"]) -> list[Int[Tensor, " excluded"]]:
        found = []
        for position in chosen.tolist():
            row = self._target_rows[position]
            if row not in self._similar:
                self._compare(composer, self._group[row])
            similar = self._similar[row]
            found.append(similar[~torch.isin(similar, self._kept[position])])
        return found

    def _compare(self, composer: Composer, group: Int[Tensor, " group"]) -> None:
        """Finds the rows that are too similar to each target of a group."""
        with torch.no_grad(), torch.autocast(self._targets.device.type, enabled=False):
            queries = self._targets[group.to(self._targets.device)].flatten(0, -2)
            scores = composer.score(queries, self._targets).view(len(group), -1, len(self._targets)).mean(dim=1)
            if isinstance(self._rule, Above):
                similar = scores > self._rule.above
            else:
                rank = int(self._rule.quantile * (len(self._targets) - 1)) + 1
                similar = scores > scores.kthvalue(rank, dim=1, keepdim=True).values
        for row, one in zip(group.tolist(), similar.cpu(), strict=True):
            # In 4 bytes: these lists stay in memory for the whole training.
            self._similar[row] = one.nonzero().squeeze(1).int()
