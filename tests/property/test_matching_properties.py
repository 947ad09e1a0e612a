from unittest.mock import patch

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from torch import Tensor

from spn4cir.positives import matching
from spn4cir.positives.matching import find_partners
from spn4cir.positives.partners import Partners


@st.composite
def galleries(draw: st.DrawFn) -> Tensor:
    """Features with coordinates in quarters: dot products are exact in any order, and ties are common."""
    images, dim = draw(st.integers(4, 40)), draw(st.integers(1, 4))
    quarters = st.lists(st.integers(-4, 4), min_size=images * dim, max_size=images * dim)
    return torch.tensor(draw(quarters), dtype=torch.float32).reshape(images, dim) / 4


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int] | None, int, int]:
    features = draw(galleries())
    lo = draw(st.integers(1, len(features) - 1))
    hi = draw(st.integers(lo + 1, len(features)))
    window = draw(st.sampled_from([(lo, hi), None]))
    width = hi - lo if window else len(features) - 1
    return features, window, draw(st.integers(1, min(width, 4))), draw(st.integers(0, 5))


def naive_ranking(features: Tensor) -> ndarray:
    """Each row's images sorted whole: itself first, then by falling similarity, then by row."""
    similarities = (features @ features.T).numpy().astype(np.float64)
    np.fill_diagonal(similarities, np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")


def run(case: tuple[Tensor, tuple[int, int] | None, int, int], **constants: int) -> Partners:
    with patch.multiple(matching, **constants):
        return find_partners(*case)


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([0, 2048]))
def test_partners_stand_at_their_rank_in_a_full_sort(
    case: tuple[Tensor, tuple[int, int] | None, int, int], near: int
) -> None:
    """By FAISS and by selection alike, target, rank and similarity are those of a naive full sort, ties included."""
    features, window, partners, _ = case
    found = run(case, _NEAR=near)
    assert found.target.tolist() == naive_ranking(features)[found.reference, found.rank].tolist()
    similarities = (features @ features.T).numpy()
    assert found.similarity.tolist() == similarities[found.reference, found.target].tolist()
    lo, hi = window or (1, len(features))
    ranks = found.rank.reshape(-1, partners)
    assert ((ranks >= lo) & (ranks < hi)).all()
    assert (np.diff(ranks, axis=1) > 0).all()


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 8), st.sampled_from([0, 2048]))
def test_block_size_changes_nothing(
    case: tuple[Tensor, tuple[int, int] | None, int, int], height: int, near: int
) -> None:
    """Blocks of a few rows give what one block of all rows gives."""
    whole = run(case, _NEAR=near)
    blocked = run(case, _NEAR=near, _BLOCK_BYTES=4 * len(case[0]) * height)
    np.testing.assert_array_equal(whole.target, blocked.target)
    np.testing.assert_array_equal(whole.similarity, blocked.similarity)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(0, 5))
def test_permuting_the_images_permutes_the_partners(images: int, seed: int) -> None:
    """Without ties, the image at a given rank does not depend on the order of the rows."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.nn.functional.normalize(torch.randn(images, 8, generator=generator))
    order = torch.randperm(images, generator=generator)
    rank = images // 2
    found = find_partners(features, (rank, rank + 1), 1, seed)
    permuted = find_partners(features[order], (rank, rank + 1), 1, seed)
    assert order[permuted.target].tolist() == found.target[order.numpy()].tolist()
