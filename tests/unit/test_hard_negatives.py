"""Hard negatives on a case that can be counted by hand, and against a count by plain loops."""

from math import comb
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.config.params import Validate
from spn4cir.datasets.cirr import Cirr
from spn4cir.evaluation.evaluate import RankedSplit, evaluate, rank_queries
from spn4cir.evaluation.hard_negatives import Counts, Nearest, count_above, image_similarity, summarise
from spn4cir.losses import token_scores
from spn4cir.types import EvaluationSplit, Gallery, Triplet
from tests.conftest import CPU
from tests.helpers.stub import StubComposer


def protocol(remove: bool) -> Validate:
    return Validate(remove_reference=remove, capitalise=False, batch_size=4, sheet_queries=1)


class Tokens(StubComposer):
    """Targets of several tokens, of which the best counts; queries are the stub's."""

    family: ClassVar[str] = "tokens"

    def score(self, queries: Tensor, targets: Tensor) -> Tensor:
        return token_scores(queries, targets)


def gallery(count: int) -> Gallery:
    names = tuple(f"i{number:02d}" for number in range(count))
    return Gallery(names, tuple(Path(name) for name in names))


def counted(
    composer: StubComposer, targets: Tensor, triplets: tuple[Triplet, ...], nearest: Nearest, remove: bool = True
) -> tuple[RankedSplit, Counts]:
    """Reference features are the targets, or their first token if there are several."""
    reference = targets if targets.ndim == 2 else targets[:, 0].contiguous()
    own, settings = gallery(len(targets)), protocol(remove)
    images = EncodedGallery(own, targets, reference, torch.arange(len(targets)))
    split = EvaluationSplit("val", triplets, own, {})
    ranked = evaluate(composer, Cirr(Path("root"), "error"), [split], images, settings, CPU).splits[0]
    silent = torch.stack([composer.meaning[text] for text in ranked.texts])
    by_text = rank_queries(composer, F.normalize(silent, dim=1), triplets, ranked.names, images, settings, CPU)
    return ranked, count_above(composer, ranked, by_text, images, nearest, settings, CPU)


def at(*degrees: float) -> Tensor:
    """Unit vectors in a plane, padded to the stub's width."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return F.pad(torch.stack([angles.cos(), angles.sin()], dim=1), (0, 10))


def test_a_case_counted_by_hand() -> None:
    """The query is at 45 degrees, between the reference at 0 and the image its text names at 90.

    Its target is at 80, 35 away. Nearer are 12, 20, 40 and 70; another is where it is, which counts against it.
    """
    triplet = Triplet("i00", ("up",), "i01", 0, subset_names=("i00", "i01", "i02"))
    composer = StubComposer({"up": at(90)[0]})
    ranked, found = counted(composer, at(0, 80, 12, 20, 40, 70, 80, 99, -60), (triplet,), Nearest(3, 2))
    assert ranked.ranking.rank.tolist() == found.rank.tolist() == [5]
    assert found.above["lookalikes"].tolist() == [3]  # 12, 20, 40
    assert found.above["text_matches"].tolist() == [1]  # 99 and 80 match the text best, 80 ties with the target
    assert found.either.tolist() == [4]
    assert found.chance["lookalikes"].tolist() == [1.0]  # three of seven, five of which rank above
    assert found.chance["text_matches"].tolist() == pytest.approx([1 - 2 / 7 * 1 / 6])


def test_an_image_of_both_kinds_is_counted_once() -> None:
    triplet = Triplet("i00", ("up",), "i01", 0, subset_names=("i00", "i01", "i02"))
    _, found = counted(StubComposer({"up": at(90)[0]}), at(0, 80, 40, 50, -90), (triplet,), Nearest(2, 2))
    assert [above.tolist() for above in found.above.values()] == [[2], [2]]
    assert found.either.tolist() == [2]


def test_a_reference_that_is_kept_is_its_own_look_alike() -> None:
    triplet = Triplet("i00", ("up",), "i01", 0, subset_names=("i00", "i01", "i02"))
    composer, targets = StubComposer({"up": at(90)[0]}), at(0, -10, 110, 120)
    for remove, expected in ((True, [0]), (False, [1])):
        _, found = counted(composer, targets, (triplet,), Nearest(1, 1), remove)
        assert found.above["lookalikes"].tolist() == expected


def test_other_answers_are_no_hard_negatives() -> None:
    """If 40 and 70 answer the query too, the look-alikes of the first case are 12, 20 and 60."""
    composer = StubComposer({"up": at(90)[0]})
    others = ("i04", "i05")
    triplet = Triplet("i00", ("up",), "i01", 0, subset_names=("i00", "i01", "i02"), other_targets=others)
    _, found = counted(composer, at(0, 80, 12, 20, 40, 70, 60, 99, -70), (triplet,), Nearest(3, 2))
    assert found.rank.tolist() == [3]
    assert [above.tolist() for above in found.above.values()] == [[3], [1]]
    assert found.either.tolist() == [3]


def by_loops(
    composer: StubComposer, targets: Tensor, triplet: Triplet, query: Tensor, text: Tensor, nearest: Nearest
) -> tuple[int, int, int]:
    """Counts look-alikes, text matches and images of either kind above the target one candidate at a time."""
    vectors = targets if targets.ndim == 3 else targets[:, None]
    reference, target = int(triplet.reference_name[1:]), int(str(triplet.target_name)[1:])
    candidates = [row for row in range(len(targets)) if row not in (reference, target)]

    def score(vector: Tensor, row: int) -> float:
        return max(float(vector @ own) for own in vectors[row])

    def alike(row: int) -> float:
        return sum(score(vector, row) for vector in vectors[reference]) / len(vectors[reference])

    like = sorted(candidates, key=alike, reverse=True)[: nearest.lookalikes]
    texts = sorted(candidates, key=lambda row: score(text, row), reverse=True)[: nearest.text_matches]
    above = {row for row in candidates if score(query, row) >= score(query, target)}
    return len(above & set(like)), len(above & set(texts)), len(above & (set(like) | set(texts)))


@pytest.mark.parametrize("tokens", [None, 3])
def test_counts_are_those_of_plain_loops(tokens: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images have one vector or several; blocks have two queries."""
    generator = torch.Generator().manual_seed(3)
    shape = (30, 12) if tokens is None else (30, tokens, 12)
    targets = F.normalize(torch.randn(shape, generator=generator), dim=-1)
    composer = (StubComposer if tokens is None else Tokens)(
        {f"t{i}": torch.randn(12, generator=generator) for i in range(9)}
    )
    names = gallery(30).names
    triplets = tuple(Triplet(names[i % 4], (f"t{i}",), names[10 + i], i, subset_names=names) for i in range(9))
    monkeypatch.setattr("spn4cir.evaluation.ranking._BLOCK_SCORES", 60)
    nearest = Nearest(6, 4)
    _, found = counted(composer, targets, triplets, nearest)
    for row, triplet in enumerate(triplets):
        start, text = int(triplet.reference_name[1:]), composer.meaning[f"t{row}"]
        feature = targets[start] if tokens is None else targets[start, 0]
        query = F.normalize(feature + text, dim=0)
        expected = by_loops(composer, targets, triplet, query, F.normalize(text, dim=0), nearest)
        got = (*(int(above[row]) for above in found.above.values()), int(found.either[row]))
        assert got == expected
    assert int(found.either.sum()) > 5
    drawn = [1 - comb(28 - rank, 6) / comb(28, 6) for rank in found.rank.tolist()]
    assert found.chance["lookalikes"].tolist() == pytest.approx(drawn)


def test_a_gallery_of_fewer_images_than_are_asked_for() -> None:
    """All three other candidates are of both kinds, and two of them rank above the target."""
    triplet = Triplet("i00", ("up",), "i01", 0, subset_names=("i00", "i01"))
    _, found = counted(StubComposer({"up": at(90)[0]}), at(0, 80, 40, 50, -90), (triplet,), Nearest(50, 50))
    assert [above.tolist() for above in found.above.values()] == [[2], [2]]
    assert [chance.tolist() for chance in found.chance.values()] == [[1.0], [1.0]]


def test_what_the_metrics_file_says() -> None:
    """Two splits have four queries, three of them failures at k = 10."""

    def counts(rank: list[int], like: list[int], text: list[int], either: list[int]) -> Counts:
        above = {"lookalikes": torch.tensor(like), "text_matches": torch.tensor(text)}
        return Counts(torch.tensor(rank), above, torch.tensor(either), {kind: torch.full((2,), 0.25) for kind in above})

    parts = [counts([3, 12], [1, 3], [0, 0], [1, 3]), counts([11, 40], [1, 0], [1, 4], [2, 4])]
    assert summarise(parts, Nearest(3, 4), 10) == {
        "k": 10,
        "failures": 3,
        "lookalikes": {
            "images": 3,
            "queries": 75.0,
            "by_chance": 25.0,
            "mean_above": 1.25,
            "failures": pytest.approx(100 / 3),
        },
        "text_matches": {"images": 4, "queries": 50.0, "by_chance": 25.0, "mean_above": 1.25, "failures": 0.0},
        "either": {"failures": pytest.approx(200 / 3)},
    }


def test_similarity_of_several_tokens() -> None:
    """Similarity is the mean over an image's tokens of their best matches; it is 1 with the image itself."""
    composer = Tokens()
    first, second = at(0, 60), at(90, 30)
    found = image_similarity(composer, first[None], torch.stack([first, second]))
    assert found.tolist() == [pytest.approx([1.0, 3**0.5 / 2])]
