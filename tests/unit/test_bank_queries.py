"""Queries of training triplets, composed from rows of the bank."""

import pytest
import torch
import torch.nn.functional as F

from spn4cir.errors import InputError
from spn4cir.training.bank_queries import compose_bank_queries, drawn_triplets, query_texts
from spn4cir.types import Triplet
from tests.conftest import CPU
from tests.helpers.banks import stored_bank
from tests.helpers.stub import StubComposer

TRIPLETS = [Triplet(f"i{row}", (f"t{number}",), "i0", number) for number, row in enumerate([3, 1, 3, 0, 2, 3, 1])]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_triplet_is_composed_once_from_its_row_and_its_text(dtype: str, batch_size: int) -> None:
    """In the order of the references' rows, so that a row is read once or in neighbouring batches."""
    rows = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    meaning = {f"t{number}": torch.eye(12)[number] for number in range(7)}
    composer, bank = StubComposer(meaning), stored_bank(rows, dtype)
    texts = query_texts(TRIPLETS, False, 1)
    queries = torch.cat(list(compose_bank_queries(composer, bank, TRIPLETS, texts, batch_size, 0, CPU)))
    order = sorted(range(7), key=lambda number: bank.row[TRIPLETS[number].reference_name])
    read = rows.to(getattr(torch, dtype)).float()
    expected = [read[bank.row[TRIPLETS[n].reference_name]] + meaning[f"t{n}"] for n in order]
    torch.testing.assert_close(queries, F.normalize(torch.stack(expected), dim=1))
    assert composer.encoded == 0


def test_a_reference_outside_of_the_bank_is_named() -> None:
    bank = stored_bank(torch.randn(2, 12))
    with pytest.raises(InputError, match="training queries: image 'i3' is not among"):
        list(compose_bank_queries(StubComposer(), bank, TRIPLETS, ["x"] * 7, 4, 0, CPU))


def test_a_sample_is_drawn_with_the_seed_and_in_order() -> None:
    assert drawn_triplets(TRIPLETS, None, 1) == drawn_triplets(TRIPLETS, 100, 1) == TRIPLETS
    samples = [[t.query_id for t in drawn_triplets(TRIPLETS, 3, seed)] for seed in (1, 1, 2, 3, 4)]
    assert samples[0] == samples[1] == sorted(samples[0])
    assert len(set(samples[0])) == 3
    assert len(set(map(tuple, samples))) > 1


def test_texts_are_those_of_validation_and_a_generated_triplet_has_one_of_its_own() -> None:
    annotated = Triplet("a", ("is Red.", "has dots"), "b")
    generated = [Triplet("a", ("red instead of blue", "Unlike blue, I want red"), "b", generated=True)] * 40
    first, *others = query_texts([annotated, *generated], True, 1)
    assert first == "Is red and has dots"
    assert set(others) == set(generated[0].captions)
