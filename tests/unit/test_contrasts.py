"""The contrast of a batch, and the images that leave the denominator of its queries."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.config.training import Above, Quantile
from spn4cir.losses import token_scores
from spn4cir.training.bank import Bank
from spn4cir.training.contrasts import Contrasts
from spn4cir.training.false_negatives import FalseNegatives
from spn4cir.types import Triplet
from tests.helpers.stub import stage2

# Unit vectors at these angles: the cosine of two images is that of the difference.
DEGREES = [0, 10, 20, 30, 60, 90, 120, 180]
NAMES = [f"i{row}" for row in range(len(DEGREES))]
TARGETS = torch.stack([torch.tensor([angle * torch.pi / 180]) for angle in DEGREES])
TARGETS = torch.cat([TARGETS.cos(), TARGETS.sin()], dim=1)
ALL = torch.arange(3)


class Scores:
    """Counts the queries that are scored."""

    def __init__(self, score: Any = lambda queries, targets: queries @ targets.T) -> None:
        self.queries = 0
        self._score = score

    def score(self, queries: Tensor, targets: Tensor) -> Tensor:
        self.queries += len(queries)
        return self._score(queries, targets)


def bank(targets: Tensor = TARGETS) -> Bank:
    return Bank(SimpleNamespace(), targets, {name: row for row, name in enumerate(NAMES)})  # type: ignore[arg-type]


def triplet(reference: int, target: int, group: tuple[str, ...] = (), generated: bool = False) -> Triplet:
    return Triplet(NAMES[reference], ("text",), NAMES[target], subset_names=group, generated=generated)


TRIPLETS = [triplet(7, 1), triplet(3, 1, ("i0", "i1", "elsewhere")), triplet(6, 4, generated=True)]


def found(pairs: Tensor) -> set[tuple[int, int]]:
    return {(int(query), int(row)) for query, row in pairs.T}


def excluded(rule: Above | Quantile, within: bool = False, triplets: list[Triplet] | None = None) -> Any:
    false_negatives = FalseNegatives(triplets or TRIPLETS, bank(), rule, TARGETS)
    return found((false_negatives.in_batch if within else false_negatives.in_bank)(Scores(), ALL))  # type: ignore[arg-type]


def test_rows_above_a_similarity_leave_the_denominator() -> None:
    """Image 1 is within 25 degrees of 0, 2 and 3. The target, the reference (3) and the group (0) stay."""
    assert excluded(Above(above=0.9)) == {(0, 0), (0, 2), (0, 3), (1, 2)}


def test_rows_above_a_quantile_leave_the_denominator() -> None:
    """Of 8 similarities, the three largest are above the quantile 0.6: to image 1, those of itself, 0 and 2."""
    assert excluded(Quantile(quantile=0.6)) == {(0, 0), (0, 2), (1, 2), (2, 3), (2, 5)}


@pytest.mark.parametrize("rule", [Above(above=0.9999), Quantile(quantile=0.99)])
def test_a_target_is_never_excluded(rule: Above | Quantile) -> None:
    assert excluded(rule) == set()


def test_within_the_batch() -> None:
    """The triplets have the targets 1, 2 and 1: 2 is similar to 1, and an equal target is a copy of the own."""
    triplets = [triplet(7, 1), triplet(6, 2), triplet(2, 1)]
    # The reference of the last triplet is image 2, which stays.
    assert excluded(Above(above=0.9), True, triplets) == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0)}
    assert excluded(Above(above=0.9999), True, triplets) == {(0, 2), (2, 0)}


def test_each_target_is_compared_once() -> None:
    """In whatever order the batches arrive; three triplets have two targets."""
    for order in ([[0], [1], [2], [0, 1, 2]], [[2, 1, 0], [0]]):
        scores, false_negatives = Scores(), FalseNegatives(TRIPLETS, bank(), Above(above=0.9), TARGETS)
        for chosen in order:
            pairs = false_negatives.in_bank(scores, torch.tensor(chosen))  # type: ignore[arg-type]
        assert scores.queries == 2
    assert found(pairs) == {(0, 0), (0, 2), (0, 3)}


def test_targets_of_several_tokens() -> None:
    """Mean over the target's tokens of the largest dot product with the other image's tokens."""
    targets = F.normalize(torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0)), dim=2)
    similar = torch.einsum("td,jud->jtu", targets[4], targets).amax(dim=2).mean(dim=1)
    *_, middle, closest, itself = similar.argsort().tolist()
    assert itself == 4
    rule = Above(above=float(similar[[middle, closest]].mean()))
    triplets = [triplet(int(similar.argmin()), 4)]
    false_negatives = FalseNegatives(triplets, bank(targets), rule, targets)
    pairs = false_negatives.in_bank(Scores(token_scores), torch.tensor([0]))  # type: ignore[arg-type]
    assert found(pairs) == {(0, closest)}


def contrast(triplets: list[Triplet], **settings: Any) -> Any:
    return Contrasts(triplets, bank(), stage2(**settings), TARGETS).of(Scores(), torch.arange(len(triplets)))  # type: ignore[arg-type]


def test_the_published_settings_are_plain() -> None:
    assert contrast(TRIPLETS).plain


def test_generated_triplets_alone_have_another_loss_and_weight() -> None:
    made = contrast(TRIPLETS, generated_loss="robust", generated_weight=0.3)
    assert made.robust.tolist() == [False, False, True]
    torch.testing.assert_close(made.weights, torch.tensor([1.0, 1.0, 0.3]))


def test_a_batch_without_generated_triplets_is_plain() -> None:
    assert contrast(TRIPLETS[:2], generated_loss="robust", generated_weight=0.3).plain


def test_a_batch_of_generated_triplets_has_equal_weights() -> None:
    assert contrast(TRIPLETS[2:], generated_weight=0.3).plain


def test_a_batch_without_false_negatives_is_plain() -> None:
    assert contrast(TRIPLETS, false_negatives={"above": 0.9999}).plain
    assert not contrast(TRIPLETS, false_negatives={"above": 0.9}).plain


def test_hardness_applies_to_every_triplet() -> None:
    assert contrast(TRIPLETS[:2], hardness=0.5).hardness == 0.5


def test_in_the_batch_positions_are_excluded() -> None:
    triplets = [triplet(7, 1), triplet(6, 2)]
    made = contrast(triplets, negatives="batch", false_negatives={"above": 0.9})
    assert found(made.excluded) == {(0, 1), (1, 0)}
