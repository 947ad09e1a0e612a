"""Reranking: its order, its ties, the places it keeps, and the second network that scores only candidates."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spn4cir.composers.encoding import encode_gallery
from spn4cir.datasets.cirr import Cirr
from spn4cir.evaluation.adjusted import evaluate_adjusted
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.ranking import Ranking, rank_gallery
from spn4cir.evaluation.rerank import first_candidates, rerank, score_candidates, standardise
from tests.conftest import CPU
from tests.helpers.layouts import write_cirr
from tests.helpers.stub import StubComposer
from tests.unit.test_evaluate import PROTOCOL


def given(scores: Tensor, target: Tensor, **options: object) -> Ranking:
    """The ranking of a given score matrix."""
    return rank_gallery(lambda q, _: q.clone(), scores, torch.eye(scores.shape[1]), target, top=51, **options)


def reranked(scores: Tensor, target: Tensor, second: Tensor, k: int, share: float = 1.0, **options: object) -> Ranking:
    """The ranking after reranking by the second matrix, which has a column for each candidate."""
    plain = given(scores, target, **options)
    columns = first_candidates(plain, k)
    found = second.gather(1, columns.clamp(min=0))
    return given(scores, target, adjust=rerank(columns, plain.top_scores[:, :k], found, share), **options)


def drawn(seed: int, *shape: int, values: int = 0) -> Tensor:
    """Scores; with `values`, only that many different ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(values, shape, generator=generator) / 10 if values else torch.rand(shape, generator=generator)


def test_the_first_candidates_follow_the_second_scores() -> None:
    plain = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    second = torch.tensor([[0.1, 0.3, 0.2, 9.0, 0.0]])
    ranking = reranked(plain, torch.tensor([0]), second, 3)
    assert ranking.top.tolist() == [[1, 2, 0, 3, 4]]
    assert ranking.rank.tolist() == [2]


@pytest.mark.parametrize(("share", "first"), [(0.2, 0), (0.8, 1)])
def test_the_share_weighs_standardised_scores(share: float, first: int) -> None:
    """Standardised, the two scores of each network are 1 and -1, whatever their scale."""
    ranking = reranked(
        torch.tensor([[0.9, 0.8, 0.1]]), torch.tensor([0]), torch.tensor([[-500.0, 900.0, 0.0]]), 2, share
    )
    assert ranking.top[0, 0] == first


def test_standardised_scores_have_mean_0_and_deviation_1_over_the_kept() -> None:
    kept = torch.tensor([[True, True, True, False], [True, True, True, True], [False] * 4])
    found = standardise(torch.tensor([[1.0, 2.0, 3.0, 99.0], [0.1] * 4, [1.0] * 4]), kept)
    assert found[0].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5, 0])
    assert found[1:].tolist() == [[0.0] * 4] * 2


def test_equal_second_scores_keep_the_plain_order() -> None:
    plain = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    for target in range(4):
        ranking = reranked(plain, torch.tensor([target]), torch.zeros(1, 4), 3)
        assert (ranking.rank.item(), ranking.top.tolist()) == (target, [[0, 1, 2, 3]])


def test_candidates_equal_by_both_count_against_the_target() -> None:
    plain = torch.tensor([[0.8, 0.8, 0.7, 0.1]])
    assert [reranked(plain, torch.tensor([t]), torch.zeros(1, 4), 3).rank.item() for t in range(3)] == [1, 1, 2]


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("values", [0, 8])
@pytest.mark.parametrize("k", [2, 5, 20, 50])
def test_recall_at_k_and_beyond_is_that_of_the_plain_ranking(k: int, values: int, share: float) -> None:
    """Also with ties at the border, removed references, and a gallery as large as k."""
    scores, second = drawn(0, 40, 50, values=values), drawn(1, 40, 50, values=values)
    target, removed = torch.arange(40), (torch.arange(40) + 3) % 50
    options = {"removed_index": removed, "subset_index": torch.stack([target, removed, target + 5, target + 9], dim=1)}
    plain, after = given(scores, target, **options), reranked(scores, target, second, k, share, **options)
    assert k == 2 or not torch.equal(plain.top, after.top)
    for place in range(k, 51):
        assert torch.equal(plain.rank < place, after.rank < place)
    below = plain.rank >= k
    assert torch.equal(plain.rank[below], after.rank[below])
    assert torch.equal(plain.top[:, k:], after.top[:, k:]) or values
    assert [sorted(row) for row in plain.top.tolist()] == [sorted(row) for row in after.top.tolist()]


def test_reranked_members_of_a_subset_are_reordered() -> None:
    plain, second = torch.tensor([[0.9, 0.8, 0.7, 0.6]]), torch.tensor([[0.0, 1.0, 2.0, 9.0]])
    subset = torch.tensor([[0, 2, 3]])
    ranks = [reranked(plain, torch.tensor([t]), second, 3, subset_index=subset).subset_rank.item() for t in (0, 2, 3)]
    assert ranks == [1, 0, 2]


def test_a_perfect_second_network_raises_recall_at_1_and_leaves_recall_at_k(tmp_path: Path) -> None:
    layout = Cirr(write_cirr(tmp_path, val_groups=4), "error")
    splits, first = layout.evaluation_splits(), StubComposer()
    images = encode_splits(first, splits, PROTOCOL, 0, CPU)
    plain = evaluate(first, layout, splits, images, PROTOCOL, CPU)
    (ranked,) = plain.splits
    target = torch.tensor([ranked.names.index(str(triplet.target_name)) for triplet in ranked.split.triplets])

    def adjustment(splits: object, _: object) -> list[object]:
        columns = first_candidates(ranked.ranking, 5)
        perfect = (columns == target[:, None]).float()
        return [rerank(columns, ranked.ranking.top_scores[:, :5], perfect, 1.0)]

    after = evaluate_adjusted(first, layout, plain, images, PROTOCOL, CPU, adjustment)
    assert plain.scores["recall_at1"] < plain.scores["recall_at5"]
    assert after.scores["recall_at1"] == plain.scores["recall_at5"]
    for k in (5, 10, 50):
        assert after.scores[f"recall_at{k}"] == plain.scores[f"recall_at{k}"]


def test_the_second_network_encodes_each_candidate_and_reference_once(tmp_path: Path) -> None:
    """Its scores are those of its own queries and targets at the candidates' columns."""
    layout = Cirr(write_cirr(tmp_path, val_groups=4), "error")
    splits, first, second = layout.evaluation_splits(), StubComposer(), StubComposer()
    second.text_side.weight.data.neg_()
    images = encode_splits(first, splits, PROTOCOL, 0, CPU)
    (ranked,) = evaluate(first, layout, splits, images, PROTOCOL, CPU).splits
    columns = first_candidates(ranked.ranking, 3)
    columns[2] = -1
    (found,) = score_candidates(second, [ranked], [columns], PROTOCOL, 0, CPU)
    wanted = {ranked.names[c] for c in columns[columns >= 0].tolist()} | {ranked.names[0]}
    assert second.encoded == len(wanted | {triplet.reference_name for triplet in ranked.split.triplets})
    gallery = splits[0].gallery
    whole = encode_gallery(second, gallery, range(len(gallery)), 4, 0, CPU, "all")
    references = whole.references(whole.rows([triplet.reference_name for triplet in ranked.split.triplets]))
    with torch.no_grad():
        scores = second.score(second.compose(references, ranked.texts), whole.targets(ranked.names))
    kept = columns >= 0
    torch.testing.assert_close(found[kept], scores.gather(1, columns.clamp(min=0))[kept])
