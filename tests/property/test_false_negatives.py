from types import SimpleNamespace

import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from spn4cir.config.training import Above, Quantile
from spn4cir.losses import token_scores
from spn4cir.training.bank import Bank
from spn4cir.training.false_negatives import FalseNegatives
from spn4cir.types import Triplet

COMPOSER = SimpleNamespace(
    score=lambda queries, targets: queries @ targets.T if targets.ndim == 2 else token_scores(queries, targets)
)
rules = st.one_of(
    st.floats(-0.9, 0.9).map(lambda above: Above(above=above)),
    st.floats(0.05, 0.95).map(lambda quantile: Quantile(quantile=quantile)),
)


def similar(rule: Above | Quantile, targets: Tensor, row: int) -> Tensor:
    """Returns which images are too similar to one, from whole tensors in float64."""
    tokens = targets.double().view(len(targets), -1, targets.shape[-1])
    found = torch.einsum("td,jud->jtu", tokens[row], tokens).amax(dim=2).mean(dim=1)
    if isinstance(rule, Above):
        threshold = torch.tensor(rule.above)
    else:
        threshold = found.sort().values[int(rule.quantile * (len(found) - 1))]
    # Float32 may decide differently where a similarity is that close.
    assume(int(((found - threshold).abs() < 1e-5).sum()) == isinstance(rule, Quantile))
    return found > threshold + 1e-5


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 50), st.integers(0, 40), st.integers(0, 2**31 - 1), rules)
def test_pairs_are_the_similar_images_without_those_that_stay(
    images: int, tokens: int, seed: int, rule: Above | Quantile
) -> None:
    """In two orders of the batch, against the bank and within the batch; 0 tokens are one vector for each image."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(images, *([tokens] if tokens else []), 4, generator=generator)
    targets = F.normalize(targets, dim=-1)
    names = [f"i{row}" for row in range(images)]
    draws = torch.randint(images, (7, 4), generator=generator).tolist()
    triplets = [Triplet(names[a], ("",), names[b], subset_names=(names[c], names[d])) for a, b, c, d in draws]
    bank = Bank(SimpleNamespace(), targets, {name: row for row, name in enumerate(names)})  # type: ignore[arg-type]
    false_negatives = FalseNegatives(triplets, bank, rule, targets)
    for chosen in (torch.randperm(7, generator=generator), torch.arange(7)):
        in_bank = torch.zeros(7, images, dtype=torch.bool)
        for query, position in enumerate(chosen.tolist()):
            in_bank[query] = similar(rule, targets, draws[position][1])
            in_bank[query, draws[position]] = False
        columns = torch.tensor([draws[position][1] for position in chosen.tolist()])
        in_batch = in_bank[:, columns] | (columns == columns[:, None])
        in_batch.fill_diagonal_(False)
        assert false_negatives.in_bank(COMPOSER, chosen).T.tolist() == in_bank.nonzero().tolist()  # type: ignore[arg-type]
        assert false_negatives.in_batch(COMPOSER, chosen).T.tolist() == in_batch.nonzero().tolist()  # type: ignore[arg-type]
