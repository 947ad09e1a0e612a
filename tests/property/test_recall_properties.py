import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spn4cir.evaluation.metrics import recall_of_ranks
from spn4cir.evaluation.ranking import target_rank

ranks = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@settings(deadline=None)
@given(ranks)
def test_recall_grows_with_k(values: list[int]) -> None:
    """Recall grows with k and is between 0 and 100."""
    recalls = [recall_of_ranks(torch.tensor(values), k) for k in range(1, 42)]
    assert recalls == sorted(recalls)
    assert recalls[0] >= 0
    assert recalls[-1] == 100.0


@settings(deadline=None)
@given(ranks, st.integers(1, 41))
def test_recall_is_the_mean_of_its_parts(values: list[int], k: int) -> None:
    """Repeated queries do not change the score, nor does their order."""
    whole = recall_of_ranks(torch.tensor(values), k)
    assert whole == recall_of_ranks(torch.tensor(values[::-1] + values), k)
    assert abs(whole - sum(100.0 * (rank < k) for rank in values) / len(values)) < 1e-9


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31 - 1), st.sampled_from([2, 100]))
def test_recall_of_scores_equals_a_sort(queries: int, gallery: int, k: int, seed: int, levels: int) -> None:
    """A row is sorted with the target after all candidates that tie with it."""
    k = min(k, gallery)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (queries, gallery), generator=generator)
    target = torch.randint(gallery, (queries,), generator=generator)
    hits = 0
    for row, own in zip(scores.tolist(), target.tolist(), strict=True):
        order = sorted(range(gallery), key=lambda column, row=row, own=own: (-row[column], column == own))
        hits += own in order[:k]
    assert abs(recall_of_ranks(target_rank(scores, target), k) - 100 * hits / queries) < 1e-9
