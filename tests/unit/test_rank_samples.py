"""Samples of similarity ranks: the ranks that are shown, and the images there."""

from pathlib import Path

import pytest
import torch

from spn4cir.errors import InputError
from spn4cir.positives.matching import find_partners, sample_ranks
from spn4cir.positives.partners import Window
from spn4cir.positives.rank_samples import read_samples, sampled_ranks, strips, write_samples


def test_the_ranks_of_a_window() -> None:
    assert {label: (ranks.start, ranks.stop) for label, ranks in strips((400, 800), 858).items()} == {
        "nearest": (1, 6),
        "start of the window": (400, 405),
        "middle of the window": (597, 602),
        "end of the window": (795, 800),
        "just beyond": (800, 805),
        "farthest": (853, 858),
    }
    assert list(strips(None, 858)) == ["nearest", "middle", "farthest"]
    assert strips((0.5, 0.75), 800) == strips((400, 600), 800)


@pytest.mark.parametrize("window", [None, (1, 2), (3, 4), (2, 90)])
@pytest.mark.parametrize("images", [2, 4, 7])
def test_no_rank_is_outside_the_images(window: Window | None, images: int) -> None:
    """No rank is beyond a window that reaches to the last image, and rank 0 is the image itself."""
    ranks = sampled_ranks([window], images)
    assert ranks
    assert 1 <= min(ranks) <= max(ranks) < images


def test_samples_agree_with_the_partners(tmp_path: Path) -> None:
    """What is shown at a rank is what the draw takes at it; images come at even distances."""
    features = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)))
    names = [f"i{row}" for row in range(40)]
    found = sample_ranks(features, names, [(10, 20), None], 4)
    assert [each.reference for each in found.samples] == ["i0", "i10", "i20", "i30"]
    for rank in (1, 10, 19, 39):
        drawn = find_partners(features, (rank, rank + 1), 1, seed=0)
        for each in found.samples:
            (neighbour,) = [neighbour for neighbour in each.neighbours if neighbour.rank == rank]
            row = names.index(each.reference)
            assert neighbour.name == names[drawn.target[row]]
            assert neighbour.similarity == pytest.approx(float(drawn.similarity[row]), abs=1e-4)
    write_samples(found, tmp_path / "ranks.json")
    assert read_samples(tmp_path / "ranks.json") == found


def test_more_samples_than_images_show_each_once() -> None:
    found = sample_ranks(torch.eye(3), ["a", "b", "c"], [None], 10)
    assert [each.reference for each in found.samples] == ["a", "b", "c"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": 3, "samples": [{"reference": "a"}]}', '{"samples": 1}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ranks.json").write_text(content)
    with pytest.raises(InputError, match=r"ranks\.json: is not a file of sampled ranks; run the match stage"):
        read_samples(tmp_path / "ranks.json")
